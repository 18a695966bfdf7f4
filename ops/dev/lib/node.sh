# The Node library that partners verify webhooks with, for the tests of the partner's kit. Sourced by ops/dev/test.

node_needs() {
  need_command node Node.js nodejs
  need_command npm npm npm
}

# node_environment: makes sure that the packages are there and sets ORDERFLOW_TEST_NODE to the folder that holds them. Its name
# carries what it was made from.
node_environment() {
  local home
  home=$CACHE_DIR/node-$({ node --version && cat "$DEV_DIR/node/package-lock.json"; } | cksum | cut -d ' ' -f 1)
  mkdir -p "$CACHE_DIR"
  exec 8>"$CACHE_DIR/node.lock"
  if command -v flock >/dev/null; then flock 8; fi
  if [ ! -f "$home/complete" ]; then
    note 'fetching the Node packages of the interoperability tests (once)'
    rm -rf "$home"
    mkdir -p "$home"
    cp "$DEV_DIR/node/package.json" "$DEV_DIR/node/package-lock.json" "$home/"
    npm ci --prefix "$home" --ignore-scripts --no-audit --no-fund --loglevel=error >&2 ||
      die "npm could not install ops/dev/node/package-lock.json for Node $(node --version)"
    touch "$home/complete"
  fi
  exec 8>&-
  export ORDERFLOW_TEST_NODE=$home
}
