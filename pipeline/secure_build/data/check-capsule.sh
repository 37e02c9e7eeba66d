#!/bin/sh
# Checks a capsule of `secure-build publish --to oci:DIR --with-evidence` without secure-build:
#
#   sh check.sh DIR [--cosign-key FILE] [--gpg-key FILE]
#
# Needs sha256sum, openssl, gpg and what every POSIX system has; skopeo has its say where it is there. It asks no
# network. Exit code: 0 all is good, 1 something is bad, 2 usage, 5 nothing is bad and something was not checked.
# Keys that lie in the capsule, and this script if it does, can only show that the capsule agrees with itself.
# What is read of JSON is read in the one form that secure-build writes; anything else is never good.
set -u
LC_ALL=C
export LC_ALL

usage() { echo "usage: sh check.sh DIR [--cosign-key FILE] [--gpg-key FILE]" >&2; exit 2; }
absolute() { case $1 in /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac; }
cosign_key='' gpg_key='' directory=''
while [ $# -gt 0 ]; do
  case $1 in
    --cosign-key) [ $# -gt 1 ] || usage; cosign_key=$(absolute "$2"); shift 2 ;;
    --gpg-key) [ $# -gt 1 ] || usage; gpg_key=$(absolute "$2"); shift 2 ;;
    -* | '') usage ;;
    *) [ -z "$directory" ] || usage; directory=$(absolute "$1"); shift ;;
  esac
done
[ -n "$directory" ] || usage
for key in "$cosign_key" "$gpg_key"; do
  [ -z "$key" ] || [ -f "$key" ] || { echo "there is no key $key" >&2; exit 2; }
done
cd -- "$directory" 2>/dev/null || usage
has() { command -v "$1" >/dev/null 2>&1; }
has sha256sum || { echo "sha256sum is not here" >&2; exit 2; }
record=evidence/build-record.json
for one in "$record" evidence/SHA256SUMS; do
  [ -f "$one" ] || { echo "$PWD is no capsule: it has no $one" >&2; exit 2; }
done
tmp=$(mktemp -d) || exit 2
trap 'rm -rf "$tmp"' EXIT
trap 'exit 2' HUP INT TERM
: >"$tmp/bad"
: >"$tmp/open"

# Of what a capsule says, nothing but text goes to the terminal.
say() { printf '%-13s%s\n' "$1" "$2" | tr -cd '\12\40-\176'; }
good() { say good "$1"; }
bad() { say BAD "$1" | tee -a "$tmp/bad"; }
unchecked() { say 'not checked' "$1" | tee -a "$tmp/open"; }
sum() { sha256sum | cut -c 1-64; }
blob() { printf 'blobs/sha256/%s' "${1#sha256:}"; }

# The files: what there is, no more and no less, with these hashes; a blob's name is its hash.
# What is neither file nor folder could lead elsewhere, so nothing else is looked at then.
find . ! -type f ! -type d >"$tmp/odd"
while IFS= read -r one; do bad "$one: neither file nor folder"; done <"$tmp/odd"
[ ! -s "$tmp/odd" ] || exit 1
find . -type f ! -path ./evidence/SHA256SUMS | sed 's|^\./||' >"$tmp/there"
cut -c 67- evidence/SHA256SUMS >"$tmp/listed"
! grep -qE '(^|/)\.\.(/|$)' "$tmp/listed" || { bad "evidence/SHA256SUMS: it leads out of the capsule"; exit 1; }
awk '$2 ~ "^blobs/" && $2 != "blobs/sha256/" $1 {print $2}' evidence/SHA256SUMS >"$tmp/misnamed"
sha256sum -c evidence/SHA256SUMS 2>/dev/null </dev/null | sed -n 's/: FAILED.*$//p' >"$tmp/changed"
! grep -qvE '^[0-9a-f]{64}  [^/]' evidence/SHA256SUMS || bad "evidence/SHA256SUMS: it is no list of hashes"
while IFS= read -r one; do bad "$one: its name is not its hash"; done <"$tmp/misnamed"
while IFS= read -r one; do bad "$one: missing, or not what evidence/SHA256SUMS says"; done <"$tmp/changed"
grep -vxFf "$tmp/listed" "$tmp/there" >"$tmp/more"
while IFS= read -r one; do bad "$one: not in evidence/SHA256SUMS"; done <"$tmp/more"
[ -s "$tmp/bad" ] || good "evidence/SHA256SUMS: all $(wc -l <"$tmp/listed") files"

# statement BUNDLE TYPE DIGEST: whether the key signed a statement of this type about this digest
# (sigstore bundle v0.3: an in-toto statement in a DSSE envelope).
statement() {
  rest='","payloadType":"application\/vnd\.in-toto+json","signatures":\[{"sig":"\([A-Za-z0-9+/=]*\)"}\]}}$'
  sed -n "s/^.*\"dsseEnvelope\":{\"payload\":\"\([A-Za-z0-9+\/=]*\)$rest/\1/p" "$1" | base64 -d >"$tmp/payload" 2>/dev/null
  sed -n "s/^.*\"dsseEnvelope\":{\"payload\":\"\([A-Za-z0-9+\/=]*\)$rest/\2/p" "$1" | base64 -d >"$tmp/signature" 2>/dev/null
  { printf 'DSSEv1 28 application/vnd.in-toto+json %d ' "$(wc -c <"$tmp/payload")"; cat "$tmp/payload"; } >"$tmp/signed"
  verified || return 1
  name='{"name":"[^"\\]*","digest":{"sha256":"[0-9a-f]\{64\}"}}'
  sed -n "s|^{\"_type\":\"https://in-toto.io/Statement/v1\",\"subject\":\[\($name\(,$name\)*\)\],\"predicateType\":\"\([^\"\\\\ ]*\)\",\"predicate\":.*|\3 \1|p" \
    "$tmp/payload" >"$tmp/about"
  case $(cat "$tmp/about") in
    "$2 "*'"sha256":"'"${3#sha256:}"'"'*) return 0 ;;
  esac
  return 1
}
verified() {
  openssl dgst -sha256 -verify "$cosign" -signature "$tmp/signature" "$tmp/signed" >/dev/null 2>&1
}

# The keys.
whose() {
  [ -z "$1" ] || { echo "$1"; return; }
  [ -f "evidence/keys/$2" ] && echo "$PWD/evidence/keys/$2"
}
own=''
cosign=$(whose "$cosign_key" cosign.pub)
openpgp=$(whose "$gpg_key" openpgp.asc)
[ -n "$cosign_key" ] || [ -z "$cosign" ] || own="$own cosign.pub"
[ -n "$gpg_key" ] || [ -z "$openpgp" ] || own="$own openpgp.asc"
no_cosign='' no_gpg=''
has openssl || no_cosign='openssl is not here'
[ -n "$cosign" ] || no_cosign='there is no cosign key'
has gpg || no_gpg='gpg is not here'
[ -n "$openpgp" ] || no_gpg='there is no OpenPGP key'
[ -n "$no_gpg" ] || {
  mkdir -m 700 "$tmp/gpg"
  pgp() { gpg --homedir "$tmp/gpg" --no-options --batch --quiet --no-autostart "$@"; }
  pgp --import "$openpgp" 2>/dev/null || bad "$openpgp: no OpenPGP key"
}

# The record, and what it lists: images, their signatures, and the tokens of the contract.
if [ -f evidence/build-record.cosign.json ]; then
  digest=$(sum <"$record")
  if [ -n "$no_cosign" ]; then unchecked "$record: $no_cosign"
  elif statement evidence/build-record.cosign.json urn:x-secure-build:build-record:v1 "$digest"; then
    good "$record: signed with the cosign key"
  else bad "$record: evidence/build-record.cosign.json is no signature of it by the cosign key"; fi
else unchecked "$record: not signed with a key, so its author could be anybody"; fi
[ ! -f evidence/build-record.keyless.json ] || unchecked "evidence/build-record.keyless.json: keyless"

# In the record every value has a line of its own, and how far it is indented says whose it is.
awk '
  function value(line) { sub(/^ *"[a-z_]*": "?/, "", line); sub(/"?,?$/, "", line); return line }
  /^  "/ { part = value($0) == "[" || value($0) == "{" ? $1 : "" }
  part == "\"images\":" && /^        "digest": / { digest = value($0) }
  part == "\"images\":" && /^        "media_type": / { type = value($0) }
  part == "\"images\":" && /^        "size": / { size = value($0) }
  part == "\"images\":" && /^      "reference": / { print "image", value($0), digest, size, type }
  part == "\"images\":" && /^          "image": / { pinned = value($0) }
  part == "\"images\":" && /^          "kept": / { kept = value($0) }
  part == "\"images\":" && /^          "kind": / { kind = value($0) }
  part == "\"images\":" && /^          "name": / { name = value($0) }
  part == "\"images\":" && /^          "predicate": / { predicate = value($0) }
  part == "\"images\":" && /^          "signer": / { print "signature", kind, pinned, kept, name, predicate "." }
  part == "\"sections\":" && /^    "/ { section = $1; gsub(/[":]/, "", section) }
  part == "\"sections\":" && /^      "token": / { print "token", section, value($0) }
' "$record" >"$tmp/list"
grep -q '^image ' "$tmp/list" || bad "$record: it lists no image"

# What index.json says of a name, which nobody has signed: it must be there once, as secure-build writes it.
listed() {
  entry=$(printf '{      "mediaType": "%s",      "digest": "%s",      "size": %s,      "annotations": {        %s"%s"      }    }' \
    "$4" "$2" "$3" '"org.opencontainers.image.ref.name": ' "$1")
  { ! grep -qF "\\" index.json && [ "$(grep -oF "\"$1\"" index.json | wc -l)" = 1 ] &&
    tr -d '\n' <index.json | grep -qF "$entry"; } 2>/dev/null || bad "index.json: $1 does not name $2"
}

# Every manifest of an image, and every blob that one names.
whole() {
  [ -f "$(blob "$1")" ] || { bad "$(blob "$1"): missing, and $2 needs it"; return; }
  grep -oE '"digest"[[:space:]]*:[[:space:]]*"sha256:[0-9a-f]{64}"' "$(blob "$1")" | grep -oE 'sha256:[0-9a-f]{64}' >"$tmp/parts.$3"
  while read -r part; do
    if [ -f "$(blob "$part")" ] && [ "$3" = 1 ] && grep -q '"manifests"[[:space:]]*:' "$(blob "$1")"; then whole "$part" "$2" 2
    elif [ ! -f "$(blob "$part")" ]; then bad "$(blob "$part"): missing, and $2 needs it"; fi
  done <"$tmp/parts.$3"
}

# A signature of the older kind: a document about one image, in a manifest that has its signature.
classic() {
  before='^.*"layers":\[{"mediaType":"application\/vnd\.dev\.cosign\.simplesigning\.v1+json","size":[0-9]*,"digest":"sha256:'
  found=$(sed -n "s/$before\([0-9a-f]\{64\}\)\",\"annotations\":{\"dev\.cosignproject\.cosign\/signature\":\"\([A-Za-z0-9+\/=]*\)\".*/\1 \2/p" "$1")
  printf '%s' "${found#* }" | base64 -d >"$tmp/signature" 2>/dev/null
  cat "$(blob "${found% *}")" >"$tmp/signed" 2>/dev/null
  verified || return 1
  repository=${2%@*}
  case $repository in docker.io/*) repository=index.$repository ;; esac
  printf '{"critical":{"identity":{"docker-reference":"%s"},"image":{"docker-manifest-digest":"%s"},%s},"optional":null}' \
    "$repository" "${2#*@}" '"type":"cosign container image signature"' | cmp -s - "$tmp/signed"
}

# with_cosign PINNED KEPT PREDICATE: a statement, or with no predicate a signature of the older kind.
with_cosign() {
  missing="missing, ${3:-signature} of $1"
  [ -f "$(blob "$2")" ] || { bad "$(blob "$2"): $missing"; return; }
  layer=$(sed -n 's/^.*"layers":\[{"mediaType":"application\/vnd\.dev\.sigstore\.bundle\.v0\.3+json","digest":"sha256:\([0-9a-f]\{64\}\)","size":[0-9]*}\].*/\1/p' "$(blob "$2")")
  [ -z "$layer" ] || [ -f "$(blob "$layer")" ] || { bad "$(blob "$layer"): $missing"; return; }
  what="$(blob "${layer:-$2}"): ${3:-signature} of $1"
  if [ -z "$3" ] && classic "$(blob "$2")" "$1"; then good "$what"
  elif [ -n "$3" ] && [ -n "$layer" ] && statement "$(blob "$layer")" "$3" "${1#*@}"; then good "$what"
  else bad "$what: not signed by the cosign key"; fi
}

# with_openpgp PINNED KEPT NAME: Red Hat simple signing, a signed document about one image and its name.
with_openpgp() {
  case $2 in
    *..*) bad "$record: no signature is at $2"; return ;;
    signatures/*) ;;
    *) bad "$record: no signature is at $2"; return ;;
  esac
  rm -f "$tmp/signed"
  pgp --status-fd 3 --output "$tmp/signed" --decrypt "evidence/$2" 3>"$tmp/status" 2>/dev/null
  ended=$?
  valid=$(sed -n 's/^\[GNUPG:\] VALIDSIG //p' "$tmp/status")
  said=$(printf '{"critical":{"type":"atomic container signature","image":{"docker-manifest-digest":"%s"},"identity":{"docker-reference":"%s"}},"optional":{' "${1#*@}" "$3")
  case $ended:$(grep -c '^\[GNUPG:\] GOODSIG ' "$tmp/status"):$(cat "$tmp/signed" 2>/dev/null) in
    "0:1:$said"*) ;;
    *) bad "evidence/$2: no signature of $1 as $3 by the OpenPGP key"; return ;;
  esac
  # Older versions of skopeo know signatures of primary keys only.
  if has skopeo && [ "${valid%% *}" = "${valid##* }" ] && ! GNUPGHOME="$tmp/gpg" skopeo standalone-verify \
    "$(blob "${1#*@}")" "$3" "${valid%% *}" "evidence/$2" >/dev/null 2>&1; then
    bad "evidence/$2: skopeo does not take it for a signature of $1 as $3"
  else good "evidence/$2: signature of $1 as $3"; fi
}

while read -r what one two three four five; do
  case $what:$one in
    image:*)
      before=$(wc -l <"$tmp/bad")
      listed "$one" "$two" "$three" "$four"
      whole "$two" "$one" 1
      [ "$before" != "$(wc -l <"$tmp/bad")" ] || good "$(blob "$two"): $one, whole" ;;
    signature:cosign)
      if [ -n "$no_cosign" ]; then unchecked "$(blob "$three"): $no_cosign"
      else with_cosign "$two" "$three" "${five%.}"; fi ;;
    signature:rhs)
      if [ -n "$no_gpg" ]; then unchecked "evidence/$three: $no_gpg"
      else with_openpgp "$two" "$three" "$four"; fi ;;
    signature:keyless) unchecked "$(blob "$three"): keyless, ${five%.} of $two" ;;
    signature:*) unchecked "$one signature of $two: it is on a server" ;;
    # What a record calls a section becomes part of an expression below, so no other name is taken.
    token:workload | token:env)
      file=evidence/contract/$one.encrypted.yaml
      if [ "$two" = null ]; then unchecked "$one: not encrypted, so no capsule has it"
      elif [ ! -f "$file" ]; then unchecked "$file: not in the capsule"
      elif [ "sha256:$(sed -n "s/^$one: //p" "$file" | tr -d '\n' | sum):$(wc -l <"$file")" = "$two:1" ]; then
        good "$file: $two"
      else bad "$file: not the token of the build record, $two"; fi ;;
    token:*) bad "$record: no section is called $one" ;;
  esac
done <"$tmp/list"
if [ -f evidence/contract/contract.yaml ]; then
  before=$(wc -l <"$tmp/bad")
  for one in workload env; do
    grep -qxFf "evidence/contract/$one.encrypted.yaml" evidence/contract/contract.yaml ||
      bad "evidence/contract/contract.yaml: another token of $one than evidence/contract/$one.encrypted.yaml"
  done
  [ "$before" != "$(wc -l <"$tmp/bad")" ] || good "evidence/contract/contract.yaml: these tokens"
fi

echo
[ -z "$own" ] || echo "Checked with keys of the capsule itself ($(echo "$own" | cut -c 2-)): it agrees with itself, whoever made it."
if [ -s "$tmp/bad" ]; then echo "$(wc -l <"$tmp/bad") BAD"; exit 1; fi
if [ -s "$tmp/open" ]; then echo "nothing is bad, $(wc -l <"$tmp/open") not checked"; exit 5; fi
echo "all is good"
