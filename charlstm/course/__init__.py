"""What only the notebooks need: pictures, probing of a trained network, recorded runs."""
