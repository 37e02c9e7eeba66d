ARG BASE=docker.io/library/busybox:1.36.1@sha256:73aaf090f3d85aa34ee199857f03fa3a95c8ede2ffd4cc2cdb5b94e566b11662
FROM ${BASE}
COPY lib/ /srv/lib/
COPY mailer.sh /srv/worker.sh
USER 65534:65534
CMD ["/bin/busybox", "sh", "/srv/worker.sh"]
