"""One file per question: what does a layer respond to, what are its kernels, why did the model answer so?"""
