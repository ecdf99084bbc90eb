-- NUMBERS: numbers_from(first) counts on from a message's number, given as text: called with i, it returns the text of first + i - 1.
-- A number has more digits than a number of Lua keeps exactly: it is counted in its last nine. To write digits takes a while: the last two
-- are written once for all, and the others once for a hundred numbers.
local function numbers_from(first)
  local front, last_nine = string.match(first, '^(%d*)(%d%d%d%d%d%d%d%d%d)$')
  local base, hundred, before, last_two = tonumber(last_nine) - 1, nil, nil, {}
  return function(i)
    local two = (base + i) % 100
    local rest = (base + i - two) / 100
    if rest ~= hundred then
      local more = rest >= 10000000 and 1 or 0
      hundred, before = rest, (more == 1 and string.format('%.0f', tonumber(front) + 1) or front) .. string.format('%07.0f', rest - more * 10000000)
    end
    last_two[two] = last_two[two] or string.format('%02.0f', two)
    return before .. last_two[two]
  end
end
