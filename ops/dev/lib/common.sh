# What the scripts of ops/dev share: messages, package installation, processes, ports and waiting.
# Sourced, never run. Nothing here knows a particular service.

DEV_DIR=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
REPO_DIR=$(cd "$DEV_DIR/../.." && pwd)
STATE_DIR=${ORDERFLOW_DEV_DIR:-$REPO_DIR/.dev}
CACHE_DIR=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/orderflow

note() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { note "$*"; exit 1; }

# Reads a pinned version from pom.xml: `pinned kafka` prints 4.1.0.
pinned() { sed -n "s:.*<$1\.version>\(.*\)</$1\.version>.*:\1:p" "$DEV_DIR/pom.xml"; }

# What is missing is first noted by all who need something, then installed at once or named in one sentence.
MISSING=
MISSING_PACKAGES=

# missing WHAT PACKAGE…: notes that something isn't here and which Debian packages bring it.
missing() {
  case $MISSING in *"$1"*) return 0 ;; esac
  MISSING="${MISSING:+$MISSING, }$1"
  shift
  MISSING_PACKAGES="$MISSING_PACKAGES $*"
}

# need_command COMMAND WHAT PACKAGE…: notes a command that isn't here.
need_command() {
  command -v "$1" >/dev/null || missing "${@:2}"
}

# need_java: Kafka 4 and the registry run on Java 17 or newer.
need_java() {
  local major=0
  if command -v java >/dev/null; then
    major=$(java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1)
  fi
  [ "${major:-0}" -ge 17 ] || missing 'Java 17' default-jre-headless
}

# install_missing: installs what was noted when this is root on a Debian; otherwise says what to install.
install_missing() {
  [ -n "$MISSING" ] || return 0
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    die "missing: $MISSING; install that (as root on Debian: apt-get install$MISSING_PACKAGES) and run this again"
  fi
  note "installing $MISSING"
  local log
  log=$(mktemp)
  # shellcheck disable=SC2086 # a list of names
  { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $MISSING_PACKAGES; } \
    >"$log" 2>&1 </dev/null || { tail -n 40 "$log" >&2; die "apt-get could not install:$MISSING_PACKAGES"; }
  rm -f "$log"
  MISSING=
  MISSING_PACKAGES=
}

# fetch GOAL…: runs one Maven goal on pom.xml, silent unless it fails.
fetch() {
  local log=$CACHE_DIR/maven.log
  mvn -B -ntp -Dstyle.color=never -f "$DEV_DIR/pom.xml" "$@" >"$log" 2>&1 </dev/null || {
    grep '^\[ERROR\]' "$log" >&2 || tail -n 25 "$log" >&2
    die "Maven could not fetch (${*:2})"
  }
}

# port_taken PORT: does something listen on the port of loopback?
port_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# wait_until SECONDS COMMAND…: tries the command until it succeeds or the time is over.
wait_until() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 0.2
  done
}

# start_process NAME COMMAND…: runs a command apart from this shell, so that it outlives it; log and pid in the state
# folder. The lock (descriptor 9) is not handed on, or the service would hold it for as long as it lives.
start_process() {
  local name=$1 detach=nohup
  shift
  if command -v setsid >/dev/null; then detach='setsid nohup'; fi
  $detach "$@" </dev/null >>"$STATE_DIR/$name/log" 2>&1 9>&- &
  echo $! >"$STATE_DIR/$name/pid"
}

# process_alive NAME: is the process that we started as NAME still the same one? Its command line names the state
# folder, so a recycled process id of a stranger is never taken for it, nor killed.
process_alive() {
  local pid
  pid=$(cat "$STATE_DIR/$1/pid" 2>/dev/null) || return 1
  case $(command_line "$pid") in *"$STATE_DIR/$1"*) return 0 ;; *) return 1 ;; esac
}

# command_line PID: small systems have no ps, and others no /proc.
command_line() {
  if [ -r "/proc/$1/cmdline" ]; then
    tr '\0' ' ' <"/proc/$1/cmdline"
  else
    ps -ww -p "$1" -o args= 2>/dev/null || true
  fi
}

process_gone() { ! process_alive "$1"; }

# stop_process NAME: asks it to end, waits, and ends it by force after 20 s.
stop_process() {
  process_alive "$1" || return 0
  kill "$(cat "$STATE_DIR/$1/pid")"
  wait_until 20 process_gone "$1" || kill -9 "$(cat "$STATE_DIR/$1/pid")"
}

# fail_with_log NAME WHY: shows the end of a service's log, then gives up.
fail_with_log() {
  tail -n 25 "$STATE_DIR/$1/log" >&2 || true
  die "$2 (log: $STATE_DIR/$1/log)"
}
