. /srv/lib/every.sh
every 30 mailer
