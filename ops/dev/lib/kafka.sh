# One Apache Kafka broker in KRaft mode, from its jars or as a container. Sourced by ops/dev/services.

kafka_folder() { echo "$CACHE_DIR/kafka-$(pinned kafka)"; }

kafka_needs() {
  need_java
  [ -d "$(kafka_folder)" ] || need_command mvn 'Apache Maven' maven
}

kafka_install() {
  local target fresh
  target=$(kafka_folder)
  if [ ! -d "$target" ]; then
    note "fetching Apache Kafka $(pinned kafka) (54 MB, once)"
    fresh=$(mktemp -d "$CACHE_DIR/fetch.XXXXXX")
    fetch org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies -DoutputDirectory="$fresh"
    chmod 755 "$fresh"
    mv -T "$fresh" "$target" 2>/dev/null || rm -rf "$fresh" # another clone was faster
  fi
  KAFKA_CLASSES="$target/*"
}

# Starts the broker on $PORT_KAFKA; its data survive a crash, not `down`. Whoever comes by a proxied port is told to come
# back by its proxy's: so the proxy stays between.
kafka_start_package() {
  kafka_install
  local home=$STATE_DIR/kafka controller pair name proxied='' advertised='' protocols=''
  controller=$(free_port $((PORT_KAFKA + 1)))
  for pair in ${ORDERFLOW_DEV_KAFKA_PROXIED:-}; do
    name=PROXIED${pair%%:*}
    proxied=$proxied,$name://127.0.0.1:${pair%%:*}
    advertised=$advertised,$name://127.0.0.1:${pair##*:}
    protocols=$protocols,$name:PLAINTEXT
  done
  {
    cat "$DEV_DIR/kafka.properties"
    echo "listeners=PLAINTEXT://127.0.0.1:$PORT_KAFKA,CONTROLLER://127.0.0.1:$controller$proxied"
    echo "advertised.listeners=PLAINTEXT://127.0.0.1:$PORT_KAFKA$advertised"
    [ -z "$protocols" ] || echo "listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT$protocols"
    echo "controller.quorum.voters=1@127.0.0.1:$controller"
    echo "log.dirs=$home/data"
  } >"$home/server.properties"
  if [ ! -f "$home/data/meta.properties" ]; then
    java -cp "$KAFKA_CLASSES" kafka.tools.StorageTool format --cluster-id="$(kafka_cluster_id)" -c "$home/server.properties" \
      >"$home/log" 2>&1 || fail_with_log kafka 'Kafka could not format its data folder'
  fi
  start_process kafka java "-Xmx${ORDERFLOW_DEV_KAFKA_HEAP:-512m}" -XX:+UseSerialGC -Dlog4j2.level=WARN \
    -cp "$KAFKA_CLASSES" kafka.Kafka "$home/server.properties"
}

# A cluster id is 16 random bytes in URL-safe base64 without padding.
kafka_cluster_id() { head -c 16 /dev/urandom | base64 | tr '+/' '-_' | tr -d '='; }

kafka_start_container() {
  "$ENGINE" run -d --name "$(container_name kafka)" -p "127.0.0.1:$PORT_KAFKA:$PORT_KAFKA" \
    -v "$DEV_DIR/kafka.properties:/mnt/shared/config/server.properties:ro" \
    -e "KAFKA_LISTENERS=PLAINTEXT://:$PORT_KAFKA,CONTROLLER://:9093" \
    -e "KAFKA_ADVERTISED_LISTENERS=PLAINTEXT://127.0.0.1:$PORT_KAFKA" \
    -e 'KAFKA_CONTROLLER_QUORUM_VOTERS=1@localhost:9093' \
    -e "CLUSTER_ID=$(kafka_cluster_id)" -e KAFKA_LOG_DIRS=/var/lib/kafka/data \
    -e "KAFKA_HEAP_OPTS=-Xmx${ORDERFLOW_DEV_KAFKA_HEAP:-512m}" \
    "apache/kafka:$(pinned kafka)" >>"$STATE_DIR/kafka/log" 2>&1
}

kafka_alive() { process_alive kafka; }
kafka_stop_package() { stop_process kafka; }
kafka_prepare_package() { :; }
kafka_address() { echo "127.0.0.1:$PORT_KAFKA"; }
