# A Python environment with producers and verifiers that we did not write, for the interoperability tests.
# Sourced by ops/dev/test.

python_needs() {
  need_command python3 'Python 3' python3 python3-venv
  # Debian's python3 comes without the module that puts pip into an environment.
  ! command -v python3 >/dev/null || python3 -c 'import ensurepip, venv' 2>/dev/null ||
    missing "Python's venv module" python3-venv
}

# python_environment: makes sure that it exists and sets ORDERFLOW_TEST_PYTHON. Its name carries what it was made from.
python_environment() {
  local home
  home=$CACHE_DIR/python-$({ python3 --version && cat "$DEV_DIR/requirements.txt"; } | cksum | cut -d ' ' -f 1)
  mkdir -p "$CACHE_DIR"
  exec 8>"$CACHE_DIR/python.lock"
  if command -v flock >/dev/null; then flock 8; fi
  if [ ! -f "$home/complete" ]; then
    note 'making the Python environment of the interoperability tests (once)'
    rm -rf "$home"
    python3 -m venv "$home" >&2 || die 'python3 -m venv failed'
    "$home/bin/python" -m pip install -q --disable-pip-version-check --no-input -r "$DEV_DIR/requirements.txt" >&2 ||
      die "pip could not install ops/dev/requirements.txt for $(python3 --version)"
    touch "$home/complete"
  fi
  exec 8>&-
  export ORDERFLOW_TEST_PYTHON=$home/bin/python
}
