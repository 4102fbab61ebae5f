#!/usr/bin/env bash
# Makes docs/play.gif: the window under Xvfb, played with real keys, filmed by its own key F4. Needs Xvfb and xdotool.
#   docs/play_gif.sh [OUT.gif] [key=value of latentcraft play ...]
# PACE=4 docs/play_gif.sh holds every key four times as long, for a machine that dreams four times as slowly as it plays:
# the film shows the game's time, not the machine's.
set -euo pipefail
out=${1:-$(dirname "${BASH_SOURCE[0]}")/play.gif}
shift || true
work=$(mktemp -d)
trap 'kill "${player:-}" "${server:-}" 2>/dev/null || true; rm -rf "$work"' EXIT

Xvfb -displayfd 3 -screen 0 800x600x24 3>"$work/display" 2>"$work/xvfb.log" &
server=$!
until [[ -s $work/display ]]; do sleep 0.1; done
export DISPLAY=:$(<"$work/display")
unset SDL_VIDEODRIVER WAYLAND_DISPLAY

latentcraft=(python -m latentcraft)
"${latentcraft[@]}" play seed=900007 scale=3 clip_format=gif clip_words=true clip_seconds=9 gif_megabytes=2.5 \
    screenshots="$work" saves="$work" recordings="$work" "$@" &
player=$!

hold() { # SECONDS KEY...: hold keys together
    local seconds=$1
    shift
    xdotool keydown "$@"
    sleep "$(awk "BEGIN {print $seconds * ${PACE:-1}}")"
    xdotool keyup "$@"
}

film() { compgen -G "$work/latentcraft-*.$1" >"$work/name"; }

xdotool mousemove 400 300
# A screenshot appears once there is something to see.
until film png; do
    kill -0 "$player"
    xdotool key F2
    sleep 0.5
done
xdotool click 1 # takes the mouse
sleep 3         # until that note is gone
xdotool key r   # the same game from its beginning
hold 2 w
hold 0.5 Right
hold 1 w
hold 0.8 w space
hold 0.5 Left
hold 1 w Control_L
hold 0.4 Down
hold 0.8 e
hold 0.4 Up
hold 1 w
xdotool key F4
until film gif; do
    kill -0 "$player"
    sleep 0.5
done
cp "$(<"$work/name")" "$out"
xdotool key q
wait "$player"
