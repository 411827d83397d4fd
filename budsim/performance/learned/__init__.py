"""What measurements correct: features, regressors, intervals and a site's calibration."""
