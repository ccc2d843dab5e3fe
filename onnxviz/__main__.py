"""`python -m onnxviz` is `onnxviz`."""

from onnxviz.cli import main

if __name__ == "__main__":
    main()
