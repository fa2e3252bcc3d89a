"""The CogVideoX video autoencoder."""
