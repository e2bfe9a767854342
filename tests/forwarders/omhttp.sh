#!/bin/sh
# omhttp.sh FOLDER: makes FOLDER/omhttp.so. Debian packages rsyslog without it, so it is built from the distribution's source,
# with headers unpacked beside the system. Needs a C compiler and make.
set -eu
folder=$1
mkdir -p "$folder/lists/partial" "$folder/lib"
cd "$folder"
apt-get indextargets --format 'deb-src $(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' | sort -u >sources.list
as_here="-o APT::Sandbox::User=root -o Dir::Etc::sourcelist=$folder/sources.list -o Dir::Etc::sourceparts=- -o Dir::State::lists=$folder/lists"
# a list without sources fails, and is not the one that is needed
apt-get $as_here update -qq || :
apt-get $as_here source -qq --download-only -t "$(. /etc/os-release; echo "$VERSION_CODENAME")" rsyslog
tar xf rsyslog_*.orig.tar.gz --strip-components 1 --one-top-level=source
apt-get -o APT::Sandbox::User=root download -qq libestr-dev libestr0 libfastjson-dev libfastjson4 libcurl4-gnutls-dev libcurl3-gnutls uuid-dev zlib1g-dev
for package in *.deb; do dpkg-deb --extract "$package" root; done
# the links of the -dev packages point below /lib
find root -name '*.so' -type l | while read -r link; do
  ln -sf "$(find "$PWD/root" /lib/x86_64-linux-gnu /usr/lib/x86_64-linux-gnu -name "$(basename "$(readlink "$link")")" | head -n 1)" "lib/$(basename "$link")"
done
cd source
PKG_CONFIG_PATH=../root/usr/lib/x86_64-linux-gnu/pkgconfig PKG_CONFIG_SYSROOT_DIR=$folder/root LDFLAGS="-L$folder/lib" \
  CPPFLAGS="-I$folder/root/usr/include -I$folder/root/usr/include/x86_64-linux-gnu" \
  ./configure --enable-omhttp --disable-libgcrypt --disable-klog --disable-imdiag --disable-generate-man-pages --disable-default-tests \
  --disable-libsystemd >../configure.log 2>&1
make -C contrib/omhttp >../make.log 2>&1
cp contrib/omhttp/.libs/omhttp.so "$folder/omhttp.so"
