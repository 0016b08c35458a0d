#!/usr/bin/env bash
# Model-check failover.pml: the full design must pass, each weakened variant must fail, and at the right guarantee.
#   check.sh              every row of the table, with its default number of faults; exit 1 if a row is not as expected
#   check.sh --quick      the same with fewer faults; --full with more
#   check.sh [--quick | --full] NAME...   only these rows; a counterexample, the shortest there is, is printed step by step
# Needs spin and gcc (Debian: spin, gcc, libc6-dev). One core; README.md says how long it takes and how to read it.
set -u
here=$(cd "$(dirname "$0")" && pwd)
for tool in spin gcc; do
  command -v "$tool" >/dev/null || { echo "$tool is missing. This mends it: sudo apt-get install -y spin gcc libc6-dev" >&2; exit 2; }
done
form=2 fast=-O1
case ${1:-} in --quick) form=1 fast=-O0; shift ;; --full) form=3; shift ;; --*) echo "no such option: $1" >&2; exit 2 ;; esac

# name | expected | faults: --quick, default, --full | rules taken away, faults added
# Expected: pass = every assertion holds in every run; ends = and no run goes on for ever; a guarantee = violated, this one first;
# CYCLE = a run that need not end.
table() { cat <<'TABLE'
full                   | pass  | 3 4 6 |
full_two_orders        | pass  | 1 1 3 | -DORDERS=2
full_prompt            | pass  | 2 3 5 | -DPROMPT -DROUNDS=1
full_cancels           | pass  | 1 2 4 | -DCANCELS=1
full_rollback          | pass  | 1 2 3 | -DROLLBACK
full_rollback_cancels  | pass  | 1 1 2 | -DROLLBACK -DCANCELS=1
full_ends              | ends  | 1 2 4 |
full_rollback_ends     | ends  | 1 1 2 | -DROLLBACK -DCANCELS=1
no_epoch               | G1    | 2 2 2 | -DNO_EPOCH
no_lock                | G1    | 2 2 2 | -DNO_LOCK
no_cas                 | G7    | 2 2 2 | -DNO_CAS
no_proof               | CYCLE | 2 2 2 | -DNO_PROOF -DNO_VERIFY
no_proof_alone         | ends  | 1 1 3 | -DNO_PROOF
no_verify_alone        | ends  | 1 1 3 | -DNO_VERIFY
no_proof_age           | G2    | 2 2 2 | -DNO_PROOF_AGE
new_client_id          | G2    | 2 2 2 | -DNEW_CLIENT_ID
send_first             | G4    | 2 2 2 | -DSEND_FIRST -DJUDGE_BROKER
keep_licence           | G4    | 2 2 2 | -DKEEP_LICENCE
resend                 | G4    | 2 2 2 | -DRESEND
resend_prompt          | pass  | 1 2 4 | -DRESEND -DPROMPT
take_back_blind        | G4    | 2 2 2 | -DTAKE_BACK_BLIND
no_ack_deadline        | G3    | 2 2 2 | -DNO_ACK_DEADLINE
early_snapshot         | G6    | 2 2 2 | -DEARLY_SNAPSHOT -DPROMPT
early_resend           | G4    | 2 2 2 | -DEARLY_SNAPSHOT -DPROMPT -DRESEND
partial_absent         | G6    | 2 2 2 | -DPARTIAL_IS_ABSENT -DPROMPT
partial_resend         | G4    | 2 2 2 | -DPARTIAL_IS_ABSENT -DPROMPT -DRESEND
judge_live             | G6    | 2 2 2 | -DJUDGE_LIVE -DPROMPT -DROUNDS=1
forgotten_cancel       | C     | 2 2 2 | -DQUEUE_FORGETS_CANCEL -DCANCELS=1
rb_no_memory           | G1    | 2 2 2 | -DROLLBACK -DNO_MEMORY
rb_late_memory         | G1    | 2 2 2 | -DROLLBACK -DREMEMBER_LATER
rb_append_blind        | G1    | 2 2 2 | -DROLLBACK -DAPPEND_BLIND
rb_no_hold             | G9    | 2 2 2 | -DROLLBACK -DNO_HOLD
rb_no_hold_broker      | G4    | 2 2 2 | -DROLLBACK -DNO_HOLD -DJUDGE_BROKER
rb_no_hold_prompt      | pass  | 1 2 3 | -DROLLBACK -DSTRICT -DNO_HOLD -DJUDGE_BROKER -DPROMPT
rb_hold_dies           | G9    | 3 3 3 | -DROLLBACK -DHOLD_DIES
rb_incomplete          | G3    | 2 2 2 | -DROLLBACK -DINCOMPLETE_AFTER
rb_not_adopted         | G4    | 2 2 2 | -DROLLBACK -DNOT_ADOPTED
rb_hasty_operator      | G4    | 2 2 2 | -DROLLBACK -DHASTY_OPERATOR
rb_quick_operator      | C     | 1 1 2 | -DROLLBACK -DCANCELS=1 -DQUICK_OPERATOR
rb_end_early           | C     | 2 2 2 | -DROLLBACK -DCANCELS=1 -DEND_BEFORE_HOLD
rb_forgetful_client    | C     | 1 1 1 | -DROLLBACK -DCANCELS=1 -DFORGETFUL_CLIENT
rb_unseen              | G9    | 2 2 2 | -DROLLBACK -DSTRICT
rb_unseen_broker       | G4    | 2 2 2 | -DROLLBACK -DSTRICT -DJUDGE_BROKER
rb_hold_always         | pass  | 1 2 3 | -DROLLBACK -DSTRICT -DHOLD_ALWAYS
TABLE
}

search() {  # options of the compiler, options of the search, depth
  gcc $1 -w -DVECTORSZ=1024 -DMEMLIM=3000 -o pan pan.c || exit 2
  rm -f ./*.trail
  ./pan $2 -m"$3" -w24 >pan.log 2>&1
}

verdict() {  # of pan.log
  local error; error=$(sed -n 's/^pan:1: //p' pan.log | head -1)
  case $error in
    *'!('*_*)       error=${error#*'!('}; echo "${error%%_*}" ;;
    *non-progress*) echo CYCLE ;;
    '') if grep -q 'errors: 0' pan.log && ! grep -qiE 'out of memory|memory limit|depth too small|truncated' pan.log; then
          [ "$1" = ends ] && echo ends || echo pass
        else echo INCOMPLETE; fi ;;
    *) echo OTHER ;;
  esac
}

story() {  # the trail as one line per step, with the cycle's beginning marked
  spin -T -t "$@" failover.pml 2>/dev/null |
    sed -nE 's/.*START OF CYCLE.*/--- from here on for ever ---/p;/^ *([12]|gateway|world|etcd|database|judge|---)[: -]/s/^ */     /p'
}

spent() {  # sets cpu: seconds of processor time so far, of what this shell has started
  times >times.log
  cpu=$(awk 'NR == 2 { split($1, u, /[ms]/); split($2, s, /[ms]/); print 60 * (u[1] + s[1]) + u[2] + s[2] }' times.log)
}

work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 2
cp "$here/failover.pml" .
bad=0 found=0
printf '%-22s %-8s %-10s %6s %10s %6s  %s\n' row expected got faults states "cpu s" flags
while IFS='|' read -r name expect counts flags; do
  name=${name// /} expect=${expect// /}
  [ $# -gt 0 ] && [[ " $* " != *" $name "* ]] && continue
  spent; found=1 began=$cpu
  faults=$(cut -d' ' -f$((form + 1)) <<<"$counts")
  flags="-DFAULTS=$faults $flags"
  spin -a $flags failover.pml >spin.log 2>&1 || { cat spin.log; exit 2; }
  case $expect in
    pass)  search "$fast -DSAFETY" "" 100000 ;;
    ends)  search "$fast -DNP -DNOREDUCE" -l 100000 ;;
    CYCLE) for depth in 40 60 80 100000; do  # the first depth that finds one
             search "-O0 -DNP -DNOREDUCE" -l $depth
             grep -q '^pan:1: non-progress' pan.log && break
           done ;;
    *)     search "-O0 -DSAFETY -DBFS" "" 100000 ;;  # breadth first: the shortest counterexample
  esac
  got=$(verdict "$expect")
  states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' pan.log)
  spent
  printf '%-22s %-8s %-10s %6s %10s %6.1f  %s\n' "$name" "$expect" "$got" "$faults" "$states" \
    "$(awk "BEGIN { print $cpu - $began }")" "${flags#* }"
  [ "$expect" = "$got" ] || bad=1
  if [ $# -gt 0 ] && ls ./*.trail >/dev/null 2>&1; then
    story $flags
    grep -o '^pan:1: .*' pan.log | sed 's/^pan:1: /  => /'
  fi
done < <(table)
[ $found = 1 ] || { echo "no such row: $*" >&2; exit 2; }
exit $bad
