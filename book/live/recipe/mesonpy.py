"""Stand in for NumPy's build backend while pip downloads the source.

pip asks the backend for the metadata of what it downloads, and NumPy's would configure a whole
build to answer. The source has the answer in a file.
"""

import shutil
from pathlib import Path


def prepare_metadata_for_build_wheel(folder, config_settings=None):
    """Write the metadata below `folder` and return the name of the folder that holds it."""
    info = Path(folder, "numpy.dist-info")
    info.mkdir()
    shutil.copy("PKG-INFO", info / "METADATA")
    return info.name
