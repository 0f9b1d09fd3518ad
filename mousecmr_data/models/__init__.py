"""The reference UNet3+ and its weights (Keras HDF5, safetensors); nothing about data or training."""
