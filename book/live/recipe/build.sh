#!/usr/bin/env bash
# Build NumPy for the reader's browser: the wheel of book/live/wheels, from NumPy's source.
#
#     make book
#     sudo book/live/recipe/build.sh FOLDER
#
# Pyodide's npm package has Python, and no NumPy; the package index has no NumPy wheel for it. So
# NumPy is compiled here, by Debian's emscripten, in a Debian of its own that debootstrap makes
# below FOLDER (3 GB). It takes some ten minutes. What runs in there sees no network.
#
#   requirements.txt  NumPy's source and Cython, by version and digest; pip gets them (mesonpy.py)
#   compilers.txt     the compilers of the wheel that is pinned
#   inside.sh         what runs in there: it translates Python's header (pyconfig.py), compiles
#                     (numpy.cross), packs (pack.py), and loads the wheel into Pyodide (check.mjs)
#   compare.py        says which files differ from those of the wheel that is pinned
#
# The same sources and compilers give the same bytes. The wheel stays in FOLDER: to take it, copy it
# to book/live/wheels, write its line into SHA256SUMS, and run `make test browser-test`.
#
# DEBIAN_MIRROR says where Debian is taken from (debootstrap verifies its signature, with the keys
# of the package debian-archive-keyring), PYTHON which Python has pip, JOBS how many compilers run
# at a time. What debootstrap and pip have left in FOLDER is used again.
set -euo pipefail

if [ $# -ne 1 ] || [ "$(id -u)" -ne 0 ]; then
    echo "usage, as root: [DEBIAN_MIRROR=URL] [PYTHON=python3] [JOBS=1] $0 FOLDER" >&2
    exit 2
fi
recipe=$(cd "$(dirname "$0")" && pwd)
live=$(dirname "$recipe")
pyodide=$live/node_modules/pyodide
mkdir -p "$1"
work=$(cd "$1" && pwd)
root=$work/root
tag=cp313-cp313-pyemscripten_2025_0_wasm32 # of the Python in Pyodide

if [ ! -d "$pyodide" ]; then
    echo "there is no Pyodide: run make book first" >&2
    exit 1
fi
# The Python that the wheel is for. npm has verified it; another one takes another tag, and perhaps
# other compilers.
sha256sum --check --quiet - <<EOF
831fd1e535084b972f87c6a35275de3d236efd5166f5e77ce89497710635e73c  $pyodide/python_stdlib.zip
EOF

PYTHONPATH=$recipe "${PYTHON:-python3}" -m pip download --no-deps --no-build-isolation \
    --require-hashes -r "$recipe/requirements.txt" -d "$work/downloads"

if [ ! -d "$root" ]; then
    rm -rf "$work/root.part"
    # It mounts as well; with it end its mounts, so that what it leaves can be removed.
    unshare --mount debootstrap --force-check-gpg --variant=minbase \
        --include=emscripten,ninja-build,python3.13-dev \
        trixie "$work/root.part" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}"
    mv "$work/root.part" "$root"
fi

rm -rf "$root/build"
mkdir "$root/build"
cp -r "$recipe" "$root/build/recipe"
cp -r "$pyodide" "$root/build/pyodide"
cp -r "$work/downloads" "$root/build/downloads"
unshare --mount --net --pid --fork chroot "$root" \
    env -i PATH=/usr/bin:/bin HOME=/build JOBS="${JOBS:-1}" bash /build/recipe/inside.sh "$tag"
built=("$root"/build/numpy-*.whl)
cp "${built[0]}" "$work"
digest=$(sha256sum <"${built[0]}")
read -r pinned_digest pinned <"$live/wheels/SHA256SUMS"
echo
echo "$work/${built[0]##*/} has the digest ${digest%% *}"
if [ "${digest%% *}" = "$pinned_digest" ]; then
    echo "It is the wheel that book/live/wheels/SHA256SUMS pins."
else
    echo "It is not the wheel that book/live/wheels/SHA256SUMS pins, which has $pinned_digest:"
    "${PYTHON:-python3}" "$recipe/compare.py" "$live/wheels/$pinned" "${built[0]}"
fi
