# Apicurio Registry with its Confluent-compatible API, from its jars or as a container. It keeps everything in memory.
# Sourced by ops/dev/services.

registry_folder() { echo "$CACHE_DIR/apicurio-registry-$(pinned apicurio)"; }

registry_needs() {
  need_java
  [ -d "$(registry_folder)" ] || need_command mvn 'Apache Maven' maven
}

registry_install() {
  local version target archive fresh
  version=$(pinned apicurio)
  target=$(registry_folder)
  REGISTRY_JAR=$target/apicurio-registry-app-$version-runner.jar
  [ ! -f "$REGISTRY_JAR" ] || return 0
  note "fetching Apicurio Registry $version (109 MB, once)"
  fresh=$(mktemp -d "$CACHE_DIR/fetch.XXXXXX")
  archive=$fresh/registry.tar.gz
  # Plugin 2.10 takes the file without reading the artifact's pom, whose parent isn't published; newer ones insist.
  fetch org.apache.maven.plugins:maven-dependency-plugin:2.10:get -Dtransitive=false -Ddest="$archive" \
    -Dartifact="io.apicurio:apicurio-registry-app:$version:tar.gz:all"
  tar -xzf "$archive" -C "$fresh" || die "could not unpack $archive"
  rm "$archive"
  chmod 755 "$fresh"
  mv -T "$fresh" "$target" 2>/dev/null || rm -rf "$fresh" # another clone was faster
}

# Legacy id mode: the id in the wire format is the global one, as Confluent's own registry has it.
registry_start_package() {
  registry_install
  start_process registry env "QUARKUS_HTTP_PORT=$PORT_REGISTRY" QUARKUS_HTTP_HOST=127.0.0.1 \
    APICURIO_CCOMPAT_LEGACY_ID_MODE_ENABLED=true \
    java -Xmx512m -XX:+UseSerialGC "-Dorderflow.dev.state=$STATE_DIR/registry" -jar "$REGISTRY_JAR"
}

registry_start_container() {
  "$ENGINE" run -d --name "$(container_name registry)" -p "127.0.0.1:$PORT_REGISTRY:8080" \
    -e APICURIO_CCOMPAT_LEGACY_ID_MODE_ENABLED=true \
    "apicurio/apicurio-registry:$(pinned apicurio)" >>"$STATE_DIR/registry/log" 2>&1
}

registry_alive() { process_alive registry; }
registry_stop_package() { stop_process registry; }
registry_prepare_package() { :; }
registry_address() { echo "http://127.0.0.1:$PORT_REGISTRY/apis/ccompat/v7"; }
