#!/usr/bin/env bash
# dcm2xml writes 16-bit words into the Native DICOM Model with their bytes swapped; dcm2json of the same package does not.
#
# One would guess: the value of an OW element is Base64 of the same bytes in both formats: those of a Little Endian file.
# What happens (dcmtk 3.6.7): dcm2xml --native-format --encode-base64 writes the bytes of each word in the other order. It ends
# with 0 and warns of nothing. dcm2json is right. Values of OB are right in both.
# Why an archive cares: a tool that reads these files back makes an image of noise, with the right size, rows and
# columns. Whoever compares two archives by their XML finds each 16-bit image changed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for program in dump2dcm dcm2xml dcm2json; do
    command -v "$program" >/dev/null || { echo "$program (Debian: dcmtk) is missing."; exit 1; }
done
version=$(dcm2xml --version | sed -n '1s/.* v\([0-9.]*\).*/\1/p')
[ "$version" = 3.6.7 ] || { echo "This is dcmtk $version; the behaviour was seen in 3.6.7."; exit 1; }

cat >"$work/image.txt" <<'DUMP'
(0008,0016) UI [1.2.840.10008.5.1.4.1.1.7]
(0008,0018) UI [1.2.826.0.1.3680043.10.1]
(0028,0002) US 1
(0028,0004) CS [MONOCHROME2]
(0028,0010) US 1
(0028,0011) US 2
(0028,0100) US 16
(0028,0101) US 16
(0028,0102) US 15
(0028,0103) US 0
(7fe0,0010) OW 0201\0403
DUMP
dump2dcm --quiet --write-xfer-little "$work/image.txt" "$work/image.dcm"

stored=$(tail -c 4 "$work/image.dcm" | base64)
xml=$(dcm2xml --native-format --encode-base64 "$work/image.dcm" 2>/dev/null | sed -n 's/.*<InlineBinary>\(.*\)<\/InlineBinary>.*/\1/p')
json=$(dcm2json "$work/image.dcm" 2>/dev/null | sed -n 's/.*"InlineBinary": "\(.*\)".*/\1/p')
echo "dcmtk $version, Pixel Data of two words, in Base64: the file $stored, dcm2json $json, dcm2xml $xml"

[ "$stored" = "AQIDBA==" ] || { echo "The file does not hold the bytes 1, 2, 3, 4."; exit 1; }
[ "$json" = "$stored" ] || { echo "dcm2json no longer gives the bytes of the file."; exit 1; }
[ "$xml" = "AgEEAw==" ] || { echo "dcm2xml no longer swaps the bytes of each word."; exit 1; }
echo "dcm2xml gives the bytes 2, 1, 4, 3."
