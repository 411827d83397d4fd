"""What every HTTP request passes: middleware, error envelopes, examples for the API document."""
