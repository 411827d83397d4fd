"""The page in the browser: asks the service's questions by form and draws the answers."""
