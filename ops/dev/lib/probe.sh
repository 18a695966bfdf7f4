# Does a service really answer? A port that accepts connections proves nothing, so each probe speaks its protocol,
# with nothing but bash: no client needs to be installed to use services that run elsewhere. Sourced, never run.

# ask_bytes HOST PORT COUNT REQUEST: sends the request (printf escapes), prints COUNT bytes of the answer as hex.
ask_bytes() {
  timeout 5 bash -c '
    exec 3<>"/dev/tcp/$1/$2" || exit 1
    printf "$4" >&3
    head -c "$3" <&3 | od -An -v -tx1 | tr -d " \n"' _ "$@" 2>/dev/null
}

# kafka_answers HOST:PORT[,…]: a Metadata request (version 1, no topics) is answered with at least one broker. The answer
# is size, correlation id and the number of brokers, four bytes each.
kafka_answers() {
  local first=${1%%,*} answer
  answer=$(ask_bytes "${first%:*}" "${first##*:}" 12 '\x00\x00\x00\x0e\x00\x03\x00\x01\x00\x00\x00\x07\xff\xff\x00\x00\x00\x00') || return 1
  [ "${#answer}" = 24 ] && [ "${answer:8:8}" = 00000007 ] && [ "${answer:16:8}" != 00000000 ]
}

# registry_answers URL: the Confluent API lists its subjects.
registry_answers() {
  case $(curl -fsS --max-time 5 "${1%/}/subjects" 2>/dev/null) in '['*) return 0 ;; *) return 1 ;; esac
}

# postgres_answers URL: a start-up message (protocol 3.0) is answered with an authentication request ("R"); while the
# server starts, or when the user is unknown before authentication, it is an error ("E").
postgres_answers() {
  local url=${1#*://} user host port length
  user=${url%%[:@]*}
  host=${url##*@}
  host=${host%%[/?]*}
  port=5432
  case $host in *:*) port=${host##*:} host=${host%:*} ;; esac
  length=$((4 + 4 + 5 + ${#user} + 1 + 1))
  [ "$(ask_bytes "$host" "$port" 1 "\\x00\\x00\\x00\\x$(printf %02x "$length")\\x00\\x03\\x00\\x00user\\x00$user\\x00\\x00")" = 52 ]
}
