-- OPEN BACKLOG: ask the leader to fire a range of past slots again, as a generation of its own.
-- KEYS  1 entry  2 backlogs  3 backlog  4 news  5 news-seq
-- ARGV  1 backlog member  2 from ms  3 to ms  4 first slot ms  5 slots left  6 rate per second ('' = the default)  7 news kept
-- reply generation | 0 (no such entry). The member is a fresh number, so a repeated call finds its own backlog and changes nothing.
-- uses news
local entry, backlogs, backlog, news, news_seq = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
if redis.call('EXISTS', entry) == 0 or redis.call('HEXISTS', entry, 'removed') == 1 then return 0 end
local known = redis.call('HGET', backlog, 'generation')
if known then return tonumber(known) end
local generation = redis.call('HINCRBY', entry, 'generation', 1)
redis.call('HSET', backlog, 'from', ARGV[2], 'to', ARGV[3], 'next', ARGV[4], 'left', ARGV[5], 'rate', ARGV[6], 'generation', generation)
redis.call('ZADD', backlogs, 0, ARGV[1])
put_in_news(news, news_seq, ARGV[7], 'backlog', ARGV[1])
return generation
