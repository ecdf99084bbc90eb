-- POLL: the truth about what is overdue, which the wheel may have missed.
-- KEYS  1 due  2 backlogs
-- ARGV  1 now ms by the caller  2 limit  3 backlogs wanted
-- reply {flat {member, due ms, …}, {backlog member, …}}, oldest first. Reads only.
local due, backlogs, now, limit, wanted = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3]
return {
  redis.call('ZRANGE', due, '-inf', now, 'BYSCORE', 'LIMIT', 0, limit, 'WITHSCORES'),
  redis.call('ZRANGE', backlogs, '-inf', now, 'BYSCORE', 'LIMIT', 0, wanted),
}
