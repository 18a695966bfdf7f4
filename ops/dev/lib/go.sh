# Go, for the test of the partner's kit in Go. Sourced by ops/dev/test.

# The Standard Webhooks library asks for Go 1.21, which not every distribution has.
GO_WANTED=1.21

# go_environment: sets ORDERFLOW_TEST_GO to the command, or to `absent`, which the test then says aloud.
go_environment() {
  local found
  command -v go >/dev/null || PATH=$PATH:/usr/local/go/bin
  found=$(go env GOVERSION 2>/dev/null | sed 's/^go//')
  if [ -n "$found" ] && [ "$(printf '%s\n' "$GO_WANTED" "$found" | sort -V | head -n 1)" = "$GO_WANTED" ]; then
    ORDERFLOW_TEST_GO=$(command -v go)
    (cd "$REPO_DIR/docs/partners/go" && go mod download >&2) || die 'go could not fetch the module of docs/partners/go'
  else
    note "Go $GO_WANTED or newer isn't here: the receiver in Go is NOT tested (install it and run this again)"
    ORDERFLOW_TEST_GO=absent
  fi
  export ORDERFLOW_TEST_GO
}
