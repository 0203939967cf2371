"""The KServe V2 protocol with Triton's extensions, on the same port as everything else.

servicer → targets (which model) → inputs (arrays) → inference → outputs (bytes)
                                                     ├ an instance of a tensor model
                                                     └ the pipeline, for a picture model (pictures)
"""
