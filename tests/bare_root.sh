#!/usr/bin/env bash
# Run tests on a bare machine: a root with Python, Git, make, a shell and what these load, and nothing else. There is no
# compiler, no ssh, no browser, no font, no time zone and no name server, and home cannot be written.
#
#   make bare TESTS="tests/test_browser.py tests/flows/test_remotes.py"
#   make bare HOUR=1    # the stranger's first hour, which installs its own environment: with a network, and a home
#
# What a test needs beyond that it brings itself, or it is skipped in a visible line. Only root may do this: it mounts.
set -euo pipefail

if [ "${1:-}" != inside ]; then
  [ "$(id -u)" -eq 0 ] || { echo "make bare: only root may make a root of its own" >&2; exit 1; }
  exec unshare --mount --propagation private bash "$0" inside "$@"
fi
shift

tree=$(cd "$(dirname "$0")/.." && pwd)
python=$(readlink -f "$tree/.venv/bin/python")
prefix=$(dirname "$(dirname "$python")")
root=$(mktemp -d)
mount -t tmpfs none "$root"
mkdir -p "$root"/{etc,proc,dev,tmp,home,usr/bin,usr/share}
ln -s usr/bin "$root/bin"

bring() { # files and the libraries that they load, each to where it lies here
  for file in "$@" $(ldd "$@" 2>/dev/null | grep -o '/[^ :]*' | sort -u); do
    [ -e "$root$file" ] || { mkdir -p "$root$(dirname "$file")"; cp -L "$file" "$root$file"; }
  done
}
for name in bash sh git make awk find grep gzip nice ps sed tar xargs \
  cat chmod cp cut date dirname basename env expr false head id kill ln ls mkdir mktemp mv pwd readlink rm rmdir seq \
  sha256sum sleep sort stat tail tee test touch tr true uname uniq wc; do
  bring "$(type -P "$name")"
done
bring "$python" "$prefix"/lib/python3*/lib-dynload/*.so
bring $(ldconfig -p | grep -oE '/\S*/lib(stdc\+\+|gcc_s|m|dl|rt|pthread|util|resolv|nss_files)\.so\.[0-9]+$')  # of wheels
git_programs=$(git --exec-path)
bring "$git_programs"/git-remote-https
mkdir -p "$root$(dirname "$git_programs")" "$root/etc/ssl" "$root/usr/lib/ssl"
cp -a "$git_programs" "$root$(dirname "$git_programs")/"
cp -a /usr/share/git-core "$root/usr/share/"
cp -aL /etc/ssl/certs "$root/etc/ssl/"  # Git clones by https
ln -s /etc/ssl/certs "$root/usr/lib/ssl/certs"  # where OpenSSL looks
echo 'root:x:0:0::/home:/bin/sh' > "$root/etc/passwd"
echo 'root:x:0:' > "$root/etc/group"
echo '127.0.0.1 localhost' > "$root/etc/hosts"

mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs none "$root/tmp"
mkdir -p "$root$tree" "$root$prefix"  # they may lie below /tmp
mount --bind "$tree" "$root$tree"
mount --bind "$prefix" "$root$prefix"
mount --bind "$root/home" "$root/home"
for folder in "$prefix" /home; do mount -o remount,ro,bind "$root$folder"; done

if [ "$1" = --hour ]; then
  hour=$tree/runs/hour
  mkdir -p "$hour"/{home,tmp}
  ln -s "$python" "$root/usr/bin/python3"
  for file in /etc/resolv.conf /etc/pip.conf; do [ ! -e "$file" ] || bring "$file"; done
  mapfile -t network < <(env | grep -E '^(PIP|UV|SSL)_|_(PROXY|proxy)=' || true)
  exec chroot "$root" /usr/bin/env -i "${network[@]}" HOME="$hour/home" TMPDIR="$hour/tmp" PATH=/usr/bin:/bin \
    LANG=C.UTF-8 python3 "$tree/tests/strangers_hour.py" --folder "$hour"
fi
exec chroot "$root" /usr/bin/env -i HOME=/home PATH="$tree/.venv/bin:/usr/bin:/bin" LANG=C.UTF-8 OMP_NUM_THREADS=1 \
  bash -c 'cd "$1" && shift && exec python -m pytest -rs -q -p no:cacheprovider "$@"' bare "$tree" "$@"
