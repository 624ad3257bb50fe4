#!/usr/bin/env bash
# What build.sh runs in the Debian root, as root there: bash inside.sh TAG.
set -euo pipefail
tag=$1
cd /build
mount -t proc proc /proc

cut -d ' ' -f 1 recipe/compilers.txt | xargs dpkg-query -W | tr '\t' ' ' >compilers.txt
diff recipe/compilers.txt compilers.txt ||
    echo "These are other compilers than those of the wheel that is pinned."

# Python for the browser, as meson is to see it: its sysconfig data, and its header.
data=_sysconfigdata__emscripten_wasm32-emscripten
python3 -m zipfile -e pyodide/python_stdlib.zip stdlib
mkdir sysconfig
cp "stdlib/$data.py" sysconfig
headers=(/usr/include/*/python3.13/pyconfig.h)
python3 recipe/pyconfig.py "sysconfig/$data.py" "${headers[0]}" >pyconfig.h
cp pyconfig.h /usr/include/python3.13/pyconfig.h

python3 -m zipfile -e downloads/cython-*.whl cython
tar xzf downloads/numpy-*.tar.gz
source=$(echo numpy-*)
cd "$source"
export CYTHON_FOR_BUILD="python3 -m cython"
export PYTHONPATH=/build/cython:/build/sysconfig _PYTHON_SYSCONFIGDATA_NAME=$data
meson=vendored-meson/meson/meson.py
# There is no BLAS to link, and NumPy's build knows no SIMD of WebAssembly.
python3 $meson setup bld --cross-file /build/recipe/numpy.cross --prefix=/build/installed \
    --buildtype=release -Db_ndebug=true -Dallow-noblas=true -Dblas=none -Dlapack=none \
    -Ddisable-optimization=true -Dpython.install_env=prefix
ninja -C bld -j "$JOBS"
python3 $meson install -C bld --no-rebuild --quiet
unset PYTHONPATH _PYTHON_SYSCONFIGDATA_NAME

cd /build
site=$(dirname "$(find installed -type d -path '*-packages/numpy')")
python3 recipe/pack.py "$source" "$site" "$source-$tag.whl"
node recipe/check.mjs pyodide "$source-$tag.whl"
