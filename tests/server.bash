# Read by start and stop of tests/keycloak-2.5 and tests/openam: what starting and ending a Java server has in common.
# The reader sets `name`, `url`, `cache`, `run` (folder of the run state) and `mark` (what the server's command line holds).
# shellcheck shell=bash disable=SC2154

say() { printf '%s: %s\n' "$name" "$*"; }
fail() { printf '%s: %s\n' "$name" "$*" >&2; exit 1; }

# True while the process of the pid file is this server; a number that the system gave to another process does not count.
running() {
  local pid
  pid=$(cat "$run/pid" 2>/dev/null) && [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null &&
    ps -p "$pid" -o args= 2>/dev/null | grep -q -- "$mark"
}

need_tools() {
  command -v curl >/dev/null || fail "curl is missing; install it (Debian: apt-get install curl)"
  command -v ps >/dev/null || fail "ps is missing; install it (Debian: apt-get install procps)"
  command -v java >/dev/null || fail "java is missing; install a Java 17 or newer (Debian: apt-get install openjdk-17-jre-headless)"
  local version
  version=$(java -XshowSettings:properties -version 2>&1 | sed -n 's/^ *java\.specification\.version = //p')
  [ "${version%%.*}" -ge 17 ] 2>/dev/null || fail "java is version ${version:-unknown}; 17 or newer is needed"
}

# One start at a time.
lock() {
  mkdir -p "$cache"
  if command -v flock >/dev/null; then
    exec 9>"$cache/lock"
    flock -w 600 9 || fail "another start has held $cache/lock for ten minutes"
  fi
}

# The first sixteen digits of the hash of standard input.
short_hash() { { sha256sum 2>/dev/null || shasum -a 256; } | cut -c1-16; }

# fetch_archive copy|unpack COORDINATES FOLDER: from Maven Central, or from Maven's own cache.
fetch_archive() {
  command -v mvn >/dev/null || fail "mvn is missing; install Maven (Debian: apt-get install maven)"
  mkdir -p "$3"
  # `unpack` needs no unzip program, but loses the executable bits.
  (cd "$3" && mvn -q -B -Dstyle.color=never "dependency:$1" "-Dartifact=$2" "-DoutputDirectory=$3" </dev/null) ||
    fail "the download of $2 failed; see Maven's message above"
}

# detached LOG COMMAND …: a session of its own, so that Ctrl-C in this terminal or the end of a script leaves it running;
# fd 9 is the lock. The process id is in $run/pid.
detached() {
  local log=$1 detach=(nohup)
  shift
  if command -v setsid >/dev/null; then detach=(setsid nohup); fi
  "${detach[@]}" "$@" </dev/null >"$log" 2>&1 9>&- &
  echo $! >"$run/pid"
}

give_up() {
  tail -n 20 "$run/log" >&2
  end_server 10 || true
  fail "$1, see $run/log"
}

# wait_until COMMAND …: until it succeeds, at most $patience seconds and no longer than the server lives.
wait_until() {
  local began=$SECONDS
  until "$@"; do
    running || give_up "it ended while starting"
    [ $((SECONDS - began)) -lt "$patience" ] || give_up "no answer within $patience s"
    sleep 1
  done
}

# Whether the address $1 answers 200.
answers() { [ "$(curl -s -o /dev/null -m 10 -w '%{http_code}' "$1")" = 200 ]; }

# end_server SECONDS: politely for so long, then not. False when it did not run.
end_server() {
  local pid
  if ! running; then
    rm -f "$run/pid"
    return 1
  fi
  pid=$(cat "$run/pid")
  kill "$pid" 2>/dev/null || true
  for _ in $(seq $(($1 * 2))); do
    kill -0 "$pid" 2>/dev/null || break
    sleep 0.5
  done
  kill -9 "$pid" 2>/dev/null || true
  while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done
  rm -f "$run/pid"
}
