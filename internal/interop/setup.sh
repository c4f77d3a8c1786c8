#!/bin/bash
# Installs what the interop suite runs against, pinned (versions.env, requirements.txt, hive/pom.xml), from the package
# registries into ${LAKECTL_INTEROP_DIR:-~/.cache/lakectl-interop}: about 2 GB, some minutes, once.
# Needs bash, Go, Python 3.10+, Maven, a JDK 17 and a JDK 25 (JAVA25_HOME; Trino).
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
dir=${LAKECTL_INTEROP_DIR:-$HOME/.cache/lakectl-interop}
source "$here/versions.env"
mkdir -p "$dir"

# A part is done when its stamp holds the checksum of what defines it.
stamp() { (cd "$here" && cat versions.env "$@" | sha256sum | cut -d' ' -f1); }
part() { # part NAME FILES... : false when it is there already
  name=$1; shift; want=$(stamp "$@")
  [ "$(cat "$dir/$name.stamp" 2>/dev/null)" != "$want" ] || return 1
  echo "setup: $name" >&2
}
done_() { echo "$want" > "$dir/$name.stamp"; }
mvn_() { mvn -q -B "$@"; }
plugin=org.apache.maven.plugins:maven-dependency-plugin:3.8.1
jars() { rm -rf "$2"; mvn_ -f "$here/$1" $plugin:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$2" "${@:3}"; }

exec 9>"$dir/.lock"; flock 9
for c in go python3 mvn java javac jar; do
  command -v $c >/dev/null || { echo "setup: $c is missing; install Go, Python 3, Maven and a JDK 17" >&2; exit 3; }
done
java25=${JAVA25_HOME:-$(ls -d /usr/lib/jvm/*25* 2>/dev/null | head -n 1)}
[ -x "$java25/bin/javac" ] || { echo "setup: no JDK 25 (for Trino $TRINO); install one and set JAVA25_HOME" >&2; exit 3; }

if part python requirements.txt; then
  rm -rf "$dir/venv"; python3 -m venv "$dir/venv"
  "$dir/venv/bin/pip" install -q -r "$here/requirements.txt"; done_
fi
if part versitygw; then
  GOBIN="$dir/bin" GOFLAGS=-mod=mod go install github.com/versity/versitygw/cmd/versitygw@$VERSITYGW; done_
fi
if part kafka kafka/pom.xml; then jars kafka/pom.xml "$dir/kafka" -Dkafka=$KAFKA; done_; fi
if part spark spark/pom.xml; then
  jars spark/pom.xml "$dir/spark" -Dhadoop=$HADOOP_AWS
  for v in $HUDI_OLD $HUDI_NEW; do
    mvn_ $plugin:copy -Dartifact=org.apache.hudi:hudi-spark3.5-bundle_2.12:$v -DoutputDirectory="$dir/spark"
  done; done_
fi
if part trino trino/plugin.xml trino/server.xml trino/TrinoServer.java; then
  t="$dir/trino"; rm -rf "$t"; mkdir -p "$t/launch"
  jars trino/server.xml "$t/lib" -Dtrino=$TRINO
  jars trino/plugin.xml "$t/plugin/hudi" -Dtrino=$TRINO
  m=$(mktemp -d); mkdir -p "$m/META-INF/services"   # a directory of jars is a plugin only with its service file
  echo io.trino.plugin.hudi.HudiPlugin > "$m/META-INF/services/io.trino.spi.Plugin"
  jar cf "$t/plugin/hudi/services.jar" -C "$m" META-INF; rm -r "$m"
  "$java25/bin/javac" -cp "$t/lib/*" -d "$t/launch" "$here/trino/TrinoServer.java"; done_
fi
if part hive hive/pom.xml hive/LoopbackHms.java hive/StubFs.java; then
  h="$dir/hive"; jars hive/pom.xml "$h/lib"; mkdir -p "$h/launch"
  for t in "$h"/lib/*-bin.tar.gz; do   # hive-standalone-metastore-3.1.3-bin, hive-standalone-metastore-server-4.0.1-bin
    v=${t%-bin.tar.gz}; v="$h/${v##*-}"; rm -rf "$v"; mkdir "$v"; tar -xzf "$t" -C "$v" --strip-components=1; rm "$t"
  done
  javac -cp "$h/3.1.3/lib/*:$h/lib/*" -d "$h/launch" "$here"/hive/*.java; done_
fi
