# every SECONDS NAME: say that NAME works, for ever.
every() {
  while true; do
    echo "$2: working"
    /bin/busybox sleep "$1"
  done
}
