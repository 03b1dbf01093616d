-- notify: tells those who listen to a job.
-- KEYS  prefix
-- ARGV  key, status
--@include clock mail
announce({ ARGV[1] }, ARGV[2])
send_mail()
return 1
