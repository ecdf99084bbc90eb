-- ACCEPT RUN: keep the message of a long run, so that the broker need keep it no longer. The record then stays until the run has ended.
-- KEYS  1 run  2 running  3 done in this period  4 done in the period before  5 leader  6 seen
-- ARGV  1 mid  2 digest  3 envelope  4 period  5 done kept ms  6 leaderless grace ms  7 'once more' (RESEND sent this message) | ''
-- reply {now, 'stored' | 'done' | 'leaderless' (nobody could start it again: keep the broker's copy) | 'period'}
-- uses now, leaderless
local run, running, done, done_before, leader, seen = unpack(KEYS)
local mid, digest, envelope, period, kept, grace, sent = unpack(ARGV)
if math.floor(now / tonumber(kept)) ~= tonumber(period) then return {now_text, 'period'} end
if redis.call('SISMEMBER', done, digest) == 1 or redis.call('SISMEMBER', done_before, digest) == 1 then return {now_text, 'done'} end
if sent == 'once more' and redis.call('EXISTS', run) == 0 then return {now_text, 'done'} end
if leaderless(leader, seen, grace) then return {now_text, 'leaderless'} end
redis.call('HSET', run, 'envelope', envelope)
redis.call('HSETNX', run, 'state', 'accepted')
redis.call('HSETNX', run, 'token', '')
redis.call('PERSIST', run)
redis.call('HSETNX', running, mid, '0')
return {now_text, 'stored'}
