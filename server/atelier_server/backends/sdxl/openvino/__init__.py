"""The UNet and the VAE's decoder executed by OpenVINO on a CPU, behind the same step engine.

Graphs are converted from the torch modules when a model is first loaded, and kept in the state directory. Torch stays
the reference: at float32 a picture differs by at most 1/255.
"""
