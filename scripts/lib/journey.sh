# shellcheck shell=bash
# Walking a journey in the lab: commands as an admin types them, their real output, and a check of
# it. Needs common.sh.

journey_step=0 output=""

# chapter TEXT: what comes now.
chapter() {
    journey_step=$((journey_step + 1))
    printf '\n%s%2d  %s%s\n' "$bold" "$journey_step" "$*" "$plain"
}

tell() { printf '    %s%s%s\n' "$dim" "$*" "$plain"; }

wrong() {
    printf '%s%s: step %d is not as it should be: %s%s\n' "$red" "$program" "$journey_step" "$*" "$plain" >&2
    exit 1
}

# prompt COMMAND: runs it in the lab, shows both; leaves what it said in $output. Fails with it.
prompt() {
    printf '    %slab#%s %s\n' "$dim" "$plain" "$1"
    output="$("$repository/scripts/lab" run bash -c "exec 2>&1; $1" </dev/null)" || {
        show_output
        wrong "the command failed"
    }
    show_output
}

# prompt_refused COMMAND: the same for a command that must fail.
prompt_refused() {
    printf '    %slab#%s %s\n' "$dim" "$plain" "$1"
    if output="$("$repository/scripts/lab" run bash -c "exec 2>&1; $1" </dev/null)"; then
        show_output
        wrong "the command did not fail"
    fi
    show_output
}

# prompt_until SECONDS PATTERN COMMAND: again until the output matches; shows the last one.
prompt_until() {
    local deadline=$((SECONDS + $1))
    printf '    %slab#%s %s\n' "$dim" "$plain" "$3"
    until output="$("$repository/scripts/lab" run bash -c "exec 2>&1; $3" </dev/null)" && [[ "$output" =~ $2 ]]; do
        if ((SECONDS >= deadline)); then
            show_output
            wrong "not within $1 s: $2"
        fi
        sleep 0.5
    done
    show_output
}

show_output() { [[ -z "$output" ]] || printf '%s\n' "$output" | sed 's/^\(.\)/         \1/'; }

# expect PATTERN WHAT: the last output matches the extended regular expression.
expect() { [[ "$output" =~ $1 ]] || wrong "$2"; }

# reject PATTERN WHAT
reject() { [[ ! "$output" =~ $1 ]] || wrong "$2"; }

# silently COMMAND...: in the lab, without showing it; prints what it says.
silently() { "$repository/scripts/lab" run bash -c "$1" </dev/null; }
