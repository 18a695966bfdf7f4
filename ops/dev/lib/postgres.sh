# PostgreSQL with a database and superuser "orderflow", from the Debian package or as a container.
# Sourced by ops/dev/services.

POSTGRES_IMAGE_VERSION=15

# The folder of the server's programs. Debian keeps it off the PATH, and links in the PATH may lead there.
postgres_bin() {
  local folder initdb
  initdb=$(readlink -f "$(command -v initdb || echo /none/initdb)")
  for folder in "${initdb%/*}" "$(pg_config --bindir 2>/dev/null || echo /none)" /usr/lib/postgresql/*/bin; do
    if [ -x "$folder/initdb" ] && [ -x "$folder/pg_ctl" ] && [ -x "$folder/psql" ]; then
      echo "$folder"
      return
    fi
  done
  return 1
}

postgres_needs() {
  postgres_bin >/dev/null || missing PostgreSQL postgresql
}

# The server refuses to run as root: then it runs as "postgres", or as "nobody" where that user isn't there.
as_postgres() {
  if [ "$(id -u)" != 0 ]; then
    (cd / && "$@")
  elif id postgres >/dev/null 2>&1; then
    (cd / && runuser -u postgres -- "$@")
  else
    (cd / && runuser -u nobody -- "$@")
  fi
}

# That user may not be let into the state folder (a clone under /root): then the data live under /var/tmp.
postgres_home() {
  local home=$STATE_DIR/postgres
  if ! as_postgres test -x "$home"; then
    home=/var/tmp/orderflow-dev-$(printf %s "$STATE_DIR" | cksum | cut -d ' ' -f 1)
  fi
  echo "$home"
}

postgres_start_package() {
  POSTGRES_BIN=$(postgres_bin) || die 'initdb is missing; install PostgreSQL 15 or newer'
  local home socket password
  chmod 755 "$STATE_DIR/postgres"
  home=$(postgres_home)
  mkdir -p "$home"
  if [ "$(id -u)" = 0 ]; then chown "$(as_postgres id -u)" "$home"; fi
  if [ ! -f "$home/data/PG_VERSION" ]; then
    password=$(mktemp)
    echo orderflow >"$password"
    chmod 644 "$password"
    as_postgres "$POSTGRES_BIN/initdb" -D "$home/data" --username=orderflow --pwfile="$password" \
      --auth=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 >>"$STATE_DIR/postgres/log" 2>&1 ||
      fail_with_log postgres 'initdb failed'
    rm -f "$password"
  fi
  as_postgres tee "$home/data/postgresql.conf" <"$DEV_DIR/postgresql.conf" >/dev/null
  # A socket's path may have 107 bytes at most; a deep clone does without one.
  socket=$home
  if [ "${#socket}" -gt 80 ]; then socket=; fi
  as_postgres "$POSTGRES_BIN/pg_ctl" start -s -W -D "$home/data" -l "$home/server.log" \
    -o "-c listen_addresses=127.0.0.1 -c port=$PORT_POSTGRES -c unix_socket_directories=$socket" \
    </dev/null >&2 9>&- || fail_with_log postgres 'PostgreSQL did not start'
  ln -sf "$home/server.log" "$STATE_DIR/postgres/log"
}

# initdb makes the user; the database of the same name is made once the server answers.
postgres_prepare_package() {
  local admin=postgres://orderflow:orderflow@127.0.0.1:$PORT_POSTGRES/postgres
  if [ -z "$("$POSTGRES_BIN/psql" -XAtq "$admin" -c "select 1 from pg_database where datname = 'orderflow'")" ]; then
    "$POSTGRES_BIN/psql" -Xq "$admin" -c 'create database orderflow'
  fi
}

postgres_alive() {
  POSTGRES_BIN=$(postgres_bin) || return 1
  as_postgres "$POSTGRES_BIN/pg_ctl" status -s -D "$(postgres_home)/data" >/dev/null 2>&1
}

postgres_stop_package() {
  if postgres_alive; then
    as_postgres "$POSTGRES_BIN/pg_ctl" stop -s -m fast -D "$(postgres_home)/data" >&2
  fi
  rm -rf "$(postgres_home)"
}

postgres_start_container() {
  "$ENGINE" run -d --name "$(container_name postgres)" -p "127.0.0.1:$PORT_POSTGRES:5432" \
    -v "$DEV_DIR/postgresql.conf:/etc/orderflow/postgresql.conf:ro" \
    -e POSTGRES_USER=orderflow -e POSTGRES_PASSWORD=orderflow -e POSTGRES_DB=orderflow \
    "postgres:$POSTGRES_IMAGE_VERSION" \
    postgres -c config_file=/etc/orderflow/postgresql.conf -c 'listen_addresses=*' \
    >>"$STATE_DIR/postgres/log" 2>&1
}

postgres_address() { echo "postgres://orderflow:orderflow@127.0.0.1:$PORT_POSTGRES/orderflow"; }
