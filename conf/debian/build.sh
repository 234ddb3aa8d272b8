#!/bin/sh
# build.sh WHEEL FOLDER: make backup-scp_VERSION_ARCH.deb in FOLDER from the wheel.  `make deb` calls it.
# Needs: apt-get install dpkg-dev debhelper python3-venv
set -eu
top=$(cd "$(dirname "$0")/../.." && pwd)
wheel=$1 into=$2
version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' "$top/backup_scp/__init__.py")
epoch=$(git -C "$top" log -1 --format=%ct 2>/dev/null || stat -c %Y "$top/pyproject.toml")
export SOURCE_DATE_EPOCH="$epoch"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
source=$work/backup-scp-$version
mkdir "$source"
cp -r "$top/conf/debian" "$source/debian"
cp "$top/conf/backup-scp.toml" "$top/conf/backup-scp.service" "$top/constraints.txt" "$top/LICENSE" "$source"
cp "$top/LICENSE" "$source/debian/copyright"
cp "$wheel" "$source"
cat > "$source/debian/changelog" <<END
backup-scp ($version) stable; urgency=medium

  * /opt/backup-scp has the program, docs/ of the source the changes.

 -- backup-scp contributors <backup-scp@localhost>  $(LC_ALL=C date --utc --rfc-email --date "@$epoch")
END
mkdir -p "$into"
(cd "$source" && dpkg-buildpackage --build=binary --no-sign --no-pre-clean)
cp "$work"/backup-scp_*.deb "$into"
