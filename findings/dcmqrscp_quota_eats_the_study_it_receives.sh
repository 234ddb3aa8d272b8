#!/usr/bin/env bash
# A study that outgrows dcmqrscp's quota loses images of its own, and every image is answered with success.
#
# One would guess: the quota "( maxStudies, maxBytesPerStudy )" of dcmqrscp.cfg refuses what is too much, with A700
# "out of resources", the status that the standard has for it; or at least that it removes other, older studies.
# What happens (dcmtk 3.6.7 of Debian 12): when a study passes maxBytesPerStudy, dcmqrscp answers 0000 and removes
# older images of this same study. The sender sees ten times success, storescu exits with 0, and five images are
# there. Images that came within one second have the same age, so which of them goes is chance: not even a run of
# images remains. Only a warning in the log of the server tells of it.
# Why an archive cares: dcmqrscp is a common test partner and small archive; the shipped example has 1024 MB for a
# study, and a tomosynthesis or a long series of detector images passes that. "Sent with success" is then no proof
# that it is kept. A sender that deletes by C-STORE status loses images; asking back (C-FIND, Storage Commitment) is
# the only proof.
set -euo pipefail

work=$(mktemp -d)
server=
finish() {
    [[ -z $server ]] || { kill "$server" && wait "$server"; } 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT
version=$(dcmqrscp --version 2>/dev/null | head -n 1) || true
[[ $version == *v3.6.7* ]] || { echo "dcmtk 3.6.7 cannot be had here."; exit 1; }
cd "$work"
mkdir kept
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat >server.cfg <<CFG
NetworkTCPPort = $port
MaxPDUSize = 16384
MaxAssociations = 4
HostTable BEGIN
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
ARCHIVE $work/kept RW (10, 1mb) ANY
AETable END
CFG

# Ten images of 200 KiB each, all of one study: twice the quota of 1 MB.
head -c 204800 /dev/zero >pixels
for n in 1 2 3 4 5 6 7 8 9 10; do
    cat >dump <<DUMP
(0008,0016) UI =SecondaryCaptureImageStorage
(0008,0018) UI [2.25.1.$n]
(0008,0020) DA [20200101]
(0008,0030) TM [100000]
(0008,0050) SH [1]
(0008,0060) CS [OT]
(0008,0064) CS [WSD]
(0008,0090) PN
(0010,0010) PN [Test]
(0010,0020) LO [1]
(0010,0030) DA
(0010,0040) CS
(0020,000d) UI [2.25.2]
(0020,000e) UI [2.25.3]
(0020,0010) SH [1]
(0020,0011) IS [1]
(0020,0013) IS [$n]
(0028,0002) US 1
(0028,0004) CS [MONOCHROME2]
(0028,0010) US 400
(0028,0011) US 512
(0028,0100) US 8
(0028,0101) US 8
(0028,0102) US 7
(0028,0103) US 0
(7fe0,0010) OB =pixels
DUMP
    dump2dcm +te dump "$(printf 'image%02d.dcm' "$n")"
done

timeout 50 dcmqrscp -c server.cfg >log 2>&1 &
server=$!
for _ in $(seq 50); do
    echoscu -to 5 -aec ARCHIVE 127.0.0.1 "$port" 2>/dev/null && break
    sleep 0.1
done
timeout 20 storescu -v -aec ARCHIVE 127.0.0.1 "$port" image*.dcm >sent 2>&1 && code=0 || code=$?
success=$(grep -c "Received Store Response (Success)" sent || true)
timeout 20 findscu -S -aec ARCHIVE 127.0.0.1 "$port" -k QueryRetrieveLevel=IMAGE -k StudyInstanceUID=2.25.2 \
    -k SeriesInstanceUID=2.25.3 -k SOPInstanceUID -k InstanceNumber >found 2>&1
numbers=$(sed -n 's/.*(0020,0013) IS \[\([0-9]*\) *\].*/\1/p' found | sort -n)
kept=$(wc -w <<<"$numbers")
echo "$version"
echo "storescu exits $code; images answered with success: $success of 10"
echo "images that the server still has: $kept (Instance Numbers" $numbers")"
grep "quota" log | sed "s|$work/||" | head -n 1
[[ $code == 0 && $success == 10 && $kept -le 5 ]] || { echo "The behaviour has changed."; exit 1; }
