-- BEAT: renew the leases of the runs of one process, all in one call, and tell what has become of them.
-- KEYS  1 running  2, 3 drains  4 zombies; then per run: run, lease, and the keys of its guards
-- ARGV  1 lease ms  2 run kept ms  3 'extend' or 'beat'; then per run: mid, token, task id, number of guards, their kinds
-- reply {now, then per run: 'ok' | 'drain' | 'lost' | 'cancel <reason>'}
-- A process that beats for a run it has lost still runs its body: until it stops, the run is among the zombies.
-- A lease that ran out while the process stood still is taken again, as long as nobody else has had the run in between.
-- uses now
local running, zombies = KEYS[1], KEYS[4]
local lease_ms, kept, extend = ARGV[1], ARGV[2], ARGV[3] == 'extend'
local draining = redis.call('EXISTS', KEYS[2], KEYS[3]) > 0

local extension = {}
function extension.lock(key, mid)
  local by = redis.call('GET', key)
  if by == mid then redis.call('PEXPIRE', key, lease_ms) elseif not by then redis.call('SET', key, mid, 'PX', lease_ms) else return 'lost' end
end
function extension.sem(key, mid)
  redis.call('ZADD', key, string.format('%.0f', now + tonumber(lease_ms)), mid)
  redis.call('PEXPIRE', key, lease_ms)
end
function extension.idem(key, mid)
  if redis.call('HGET', key, 'mid') == mid and not redis.call('HGET', key, 'result') then redis.call('PEXPIRE', key, lease_ms) end
end
function extension.unique(key, _, task_id)
  if redis.call('GET', key) == task_id then redis.call('PEXPIRE', key, lease_ms) end
end
function extension.order() end

local statuses, key_at, at = {string.format('%.0f', now)}, 5, 4
while at <= #ARGV do
  local mid, token, task_id, guards = ARGV[at], ARGV[at + 1], ARGV[at + 2], tonumber(ARGV[at + 3])
  local run, lease = KEYS[key_at], KEYS[key_at + 1]
  local held, cancel = unpack(redis.call('HMGET', run, 'token', 'cancel'))
  local status = held ~= token and 'lost' or cancel and 'cancel ' .. cancel or draining and 'drain' or 'ok'
  if held == token then
    if redis.call('HEXISTS', running, mid) == 1 then redis.call('HINCRBY', running, mid, 1) end
    if extend then
      redis.call('SET', lease, token, 'PX', lease_ms)
      if redis.call('PTTL', run) > 0 then redis.call('PEXPIRE', run, kept) end
      for i = 1, guards do status = extension[ARGV[at + 3 + i]](KEYS[key_at + 1 + i], mid, task_id) or status end
    end
  else
    redis.call('ZADD', zombies, string.format('%.0f', now), mid)
    redis.call('ZREMRANGEBYSCORE', zombies, '-inf', string.format('%.0f', now - tonumber(kept)))
    redis.call('PEXPIRE', zombies, kept)
  end
  statuses[#statuses + 1] = status
  key_at, at = key_at + 2 + guards, at + 4 + guards
end
return statuses
