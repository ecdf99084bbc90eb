"""The work of the leader: hold the horizon, fire what is due, drain what was missed."""
