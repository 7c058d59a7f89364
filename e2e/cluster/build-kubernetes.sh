#!/bin/bash
# build-kubernetes.sh DIR: Kubernetes 1.20.2 from Debian 12's source package, with Debian's Go 1.19, into DIR/bin.
# Needs golang-1.19-go and dpkg-dev. About 5 minutes and 1.8 GB on two cores; only DIR/bin is left.
set -eu
dir=${1:?target directory}
work=$(mktemp -d "$dir/build.XXXXXX")
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
cd "$work"

# Source lists of our own: /etc/apt stays as it is.
mkdir -p lists/partial cache/archives/partial sources
for file in /etc/apt/sources.list /etc/apt/sources.list.d/debian.*; do
    case $file in
    *.sources) sed 's/^Types:.*/Types: deb deb-src/' "$file" > sources/debian.sources ;;
    *) if [ -s "$file" ]; then sed -n 's/^deb \(.*\)/deb \1\ndeb-src \1/p' "$file" > "sources/$(basename "$file" .list).list"; fi ;;
    esac
done
cat > apt.conf <<EOF
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "$work/sources";
Dir::State::Lists "$work/lists";
Dir::Cache "$work/cache";
APT::Sandbox::User "root";
EOF
export APT_CONFIG=$work/apt.conf
apt-get update -qq
apt-get source -qq --only-source kubernetes
mv kubernetes-*/ src

# The vendored reflect2 1.0.1 panics under Go 1.18 and later, on every CRD. Debian's 1.0.2 is a drop-in.
apt-get download -qq golang-github-modern-go-reflect2-dev
dpkg-deb -x golang-github-modern-go-reflect2-dev_*.deb lib
rm -rf src/vendor/github.com/modern-go/reflect2
cp -rL lib/usr/share/gocode/src/github.com/modern-go/reflect2 src/vendor/github.com/modern-go/

# GOPATH mode, as debian/rules does: the vendor folder does not pass the checks of module mode.
mkdir -p gopath/src/k8s.io
ln -sfn "$work/src" gopath/src/k8s.io/kubernetes
export GO111MODULE=off GOPATH=$work/gopath GOCACHE=$work/gocache GOTMPDIR=$work GOFLAGS='' CGO_ENABLED=0 GOGC=400
export PATH=/usr/lib/go-1.19/bin:$PATH
cd gopath/src/k8s.io/kubernetes

# The one generated file that the source package lacks.
go build -o "$work/openapi-gen" ./vendor/k8s.io/kube-openapi/cmd/openapi-gen
packages=$(grep -rl --include='*.go' '^// *+k8s:openapi-gen=true' cmd pkg plugin vendor/k8s.io/*/ |
    grep -v -e vendor/k8s.io/code-generator/ -e vendor/k8s.io/sample-apiserver/ |
    xargs -n1 dirname | LC_ALL=C sort -u | sed 's,^,k8s.io/kubernetes/,' | paste -sd,)
"$work/openapi-gen" --logtostderr -i "$packages" -p k8s.io/kubernetes/pkg/generated/openapi -O zz_generated.openapi \
    -h vendor/k8s.io/code-generator/hack/boilerplate.go.txt -r "$work/violations.report"

flags='-s -w'
for package in component-base/version client-go/pkg/version; do
    prefix=k8s.io/kubernetes/vendor/k8s.io/$package
    flags="$flags -X $prefix.gitVersion=v1.20.2 -X $prefix.gitMajor=1 -X $prefix.gitMinor=20 -X $prefix.gitTreeState=clean"
done
# Without the cloud providers' SDKs and dockershim: a third less to compile, half the size.
go build -trimpath -tags providerless,dockerless -ldflags "$flags" -o "$work/bin/" \
    ./cmd/kube-apiserver ./cmd/kube-controller-manager ./cmd/kube-scheduler ./cmd/kubelet ./cmd/kube-proxy
mkdir -p "$dir/bin"
mv "$work"/bin/* "$dir/bin/"
