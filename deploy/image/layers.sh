#!/usr/bin/env bash
# Makes the layers of the image as folders, for `make image` and the Dockerfile alike:
#   deploy/image/layers.sh FOLDER       writes FOLDER/layers/{base,dependencies,model,unitvec}
# Debian's packages are those of its mirrors today, or of DEBIAN_SNAPSHOT (YYYYMMDDTHHMMSSZ);
# Python's are pinned by hash. Of the machine that builds, only its C++ compiler leaves a trace.
set -euo pipefail

RELEASE=trixie
PYTHON=python3.13
SITE=usr/local/lib/$PYTHON/dist-packages
MODEL=models/all-MiniLM-L6-v2

out=$(realpath --canonicalize-missing "$1")
cd "$(dirname "$0")/../.."
layers=$out/layers tools=$out/tools/bin
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || date +%s)}"
# Byte code holds sets in the order of their hashes.
export SOURCE_DATE_EPOCH PYTHONHASHSEED=0 PIP_DISABLE_PIP_VERSION_CHECK=1
umask 022

main() {
  rm -rf "$out"
  mkdir -p "$layers"
  make_base &
  local base=$!
  make_tools
  make_dependencies
  make_wheels
  make_unitvec
  wait $base
  compile_all &
  local compiled=$!
  make_model
  wait $compiled
}

# Debian's part, without shell, package manager and maintainer scripts: what is wanted of those is
# done here. Scanners read what is installed from status.d.
make_base() {
  local base=$layers/base debs=$out/debs mirrors=() package
  local archive=https://snapshot.debian.org/archive
  [[ -z ${DEBIAN_SNAPSHOT:-} ]] || mirrors=(
    "deb $archive/debian/$DEBIAN_SNAPSHOT $RELEASE main"
    "deb $archive/debian-security/$DEBIAN_SNAPSHOT $RELEASE-security main")
  mmdebstrap --quiet --mode=root --variant=extract --skip=cleanup/apt \
    --include="base-files,libstdc++6,$PYTHON-minimal,lib$PYTHON-stdlib" \
    --aptopt='Acquire::Check-Valid-Until "false"' "$RELEASE" "$base" "${mirrors[@]}"
  mv "$base/var/cache/apt/archives" "$debs"
  trim_base "$base"
  mkdir -p "$base"/{dev,proc,run,sys,var/lib/dpkg/status.d}
  mkdir -m 1777 "$base/tmp"
  ln -s $PYTHON "$base/usr/bin/python3"
  printf '%s\n' root:x:0:0::/:/sbin/nologin nobody:x:65534:65534::/:/sbin/nologin >"$base/etc/passwd"
  printf '%s\n' root:x:0: nogroup:x:65534: >"$base/etc/group"
  for package in "$debs"/*.deb; do
    dpkg-deb --field "$package" >"$base/var/lib/dpkg/status.d/$(dpkg-deb --field "$package" Package)"
  done
}

# Takes away what no server opens; licences stay.
trim_base() {
  local name
  rm -rf "$1"/{boot,dev,home,media,mnt,opt,proc,root,run,srv,sys,tmp,var}
  rm -rf "$1"/etc/{apt,cron*,debconf.conf,default,dpkg,hostname,init.d,motd,resolv.conf,skel,update-motd.d}
  rm -rf "$1"/usr/{games,include,src} "$1"/usr/lib/*-linux-gnu*/gconv "$1"/usr/lib/$PYTHON/{pydoc_data,test}
  for name in "$1"/usr/share/*; do
    [[ $name == */@(common-licenses|doc|zoneinfo) ]] || rm -rf "$name"
  done
  find "$1"/usr/{bin,sbin} -mindepth 1 ! -name $PYTHON -delete
  find "$1/usr/share/doc" ! -name copyright ! -type d -delete
  find "$1/usr/share/doc" -type d -empty -delete
}

# What builds wheels and the model, for the Python that is here. uv, which is locked too, brings the
# rest in a tenth of pip's time.
make_tools() {
  local lock=deploy/requirements-export.txt
  python3 -m venv "$out/tools"
  "$tools/pip" install --quiet --no-deps --require-hashes \
    --requirement <(sed -n '/^uv==/,/^[^ ]/ {/^uv==/p; /^ /p}' $lock)
  VIRTUAL_ENV=$out/tools "$tools/uv" pip install --quiet --no-deps --require-hashes --requirement $lock
}

make_dependencies() {
  install dependencies --require-hashes --requirement deploy/requirements-server.txt
  cd "$layers/dependencies/$SITE"
  rm -rf bin onnxruntime/{datasets,quantization,tools,transformers}
  find . -type d -name tests -prune -exec rm -rf {} +
  cd "$OLDPWD"
}

make_wheels() {
  "$tools/pip" wheel --quiet --no-deps --no-build-isolation --wheel-dir "$out/wheels" . ./kernels
}

make_unitvec() {
  install unitvec --no-index --find-links "$out/wheels" unitvec unitvec-kernels
  # uv notes here when it saw the wheels.
  sed -i '/uv_cache\.json/d' "$layers/unitvec/$SITE"/*.dist-info/RECORD
  rm -f "$layers/unitvec/$SITE"/*.dist-info/uv_cache.json
  mkdir -p "$layers/unitvec/usr/local"
  mv "$layers/unitvec/$SITE/bin" "$layers/unitvec/usr/local/bin"
  sed -i '1s|.*|#!/usr/bin/python3|' "$layers"/unitvec/usr/local/bin/*
}

# int16 alone, which is what `auto` serves on every CPU: fp32 beside it would more than double it.
make_model() {
  VIRTUAL_ENV=$out/tools "$tools/uv" pip install --quiet --no-deps --no-index "$out"/wheels/*.whl
  "$tools/unitvec-export" --without-torch --precision int16 --without-fp32 \
    --out "$layers/model/$MODEL"
}

# Installs for the image's Python, whichever Python runs this.
install() { # LAYER ARGUMENT...
  "$tools/uv" pip install --quiet --no-deps --only-binary :all: --link-mode copy \
    --python-version ${PYTHON#python} --python-platform "$(uname -m)-manylinux_2_40" \
    --target "$layers/$1/$SITE" "${@:2}"
  rm -f "$layers/$1/$SITE/.lock"
}

compile_all() {
  compile base usr/lib/$PYTHON
  compile dependencies $SITE
  compile unitvec $SITE
}

# By the image's own Python. Nobody could renew byte code in the image, so nothing checks its age.
compile() { # LAYER FOLDER
  PYTHONHOME=$layers/base/usr "$layers"/base/lib64/ld-linux-* \
    --library-path "$(echo "$layers"/base/usr/lib/*-linux-gnu*)" "$layers/base/usr/bin/$PYTHON" \
    -B -S -m compileall -q --invalidation-mode unchecked-hash -s "$layers/$1" -p / "$layers/$1/$2"
}

shopt -s extglob
main
