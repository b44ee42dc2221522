# Runs in the guest of guest.rs: how units are scheduled; then one failure of a real NFS mount after the other, and what a
# coreapp's status says of it.
# Prints one line for each step, PASS or FAIL; decides nothing about what must be there.
SHARED=/var/lib/wamedia/shared
OPTIONS='rw,sync,insecure,no_subtree_check,no_root_squash'

status() { systemctl show -P StatusText wa-coreapp@1; }

# Waits until the status says something like it.
says() {
    for _ in $(seq 150); do
        case $(status) in *media:*$2*) echo "PASS $1: $(status)"; return ;; esac
        sleep 0.4
    done
    echo "FAIL $1: $(status)"
}

# Waits until the journal says that the directory works, since the step before.
works() {
    for _ in $(seq 150); do
        if journalctl -o cat -u wa-coreapp@1 --cursor-file=/run/cursor | grep -q "media: $SHARED works.*nfs4"; then
            case $(status) in *media:*) ;; *) echo "PASS $1: $(status)"; return ;; esac
        fi
        sleep 0.4
    done
    echo "FAIL $1: $(status)"
}

exports() {
    printf '/srv/a *(%s,fsid=1)\n/srv/b *(%s,fsid=2)\n' "$1" "$OPTIONS" >/etc/exports
    exportfs -ra
}

# The heartbeat thread is where load does not reach it: SCHED_FIFO 10, with a bound.
realtime() {
    for _ in $(seq 150); do
        pid=$(systemctl show -P MainPID "wa-$1")
        if [ "$pid" != 0 ] && ps -L -o cls=,rtprio=,comm= -p "$pid" | grep -q '^ *FF *10 heartbeats$'; then
            echo "PASS realtime-$1: $(awk '/^Max realtime timeout/ {print $4, $5}' "/proc/$pid/limits")"
            return
        fi
        sleep 0.4
    done
    echo "FAIL realtime-$1: $(systemctl show -P StatusText -P Result "wa-$1" | tr '\n' ' ')"
}

# As the example among the documents says, but for times that a test need not wait for.
mounted() { mount -t nfs4 -o vers=4.2,hard,timeo=10,retrans=1,noac,noresvport "127.0.0.1:/srv/$1" $SHARED; }

# A probe may be at it.
unmounted() { until umount $SHARED 2>/dev/null; do sleep 0.1; done; }

echo "guest $(uname -r), up $(cut -d' ' -f1 /proc/uptime) s"
ip link set lo up
printf '[nfsd]\ngrace-time=10\nlease-time=10\n' >/etc/nfs.conf
exports "$OPTIONS"
systemctl start nfs-server
mounted a
echo "mounted $(findmnt -no FSTYPE,SOURCE $SHARED)"
systemctl start wa-host wa-master@1 wa-coreapp@1 wa-webapp@1
works works
for unit in master@1 coreapp@1 webapp@1 host; do realtime "$unit"; done
systemctl stop wa-webapp@1 wa-host

exports "${OPTIONS/rw/ro}"
says read-only 'is read-only'
exports "$OPTIONS"
works writable

unmounted
says not-mounted 'nothing is mounted'
mounted b
says other-export "is another export than the cluster's"
unmounted
mounted a
works right-export

cp -a /srv/a /srv/kept
rm -r /srv/a
cp -a /srv/kept /srv/a
exportfs -f
says stale 'is stale'
umount -l $SHARED
mounted a
works mounted-again

systemctl stop nfs-server
says hanging 'has not answered for'
# One is given up, and the next one begun, now and then: there may be a moment without any.
for _ in $(seq 50); do
    probes=$(pgrep -fc ' probe-mount ')
    [ "$probes" -ge 1 ] && break
    sleep 0.1
done
if [ "$probes" -ge 1 ] && [ "$probes" -le 2 ]; then echo "PASS probes: $probes wait"; else echo "FAIL probes: $probes wait"; fi
systemctl start nfs-server
works answers

restarts=$(systemctl show -P NRestarts wa-coreapp@1)
if [ "$restarts" = 0 ]; then echo "PASS same-process"; else echo "FAIL same-process: $restarts restarts"; fi
echo "end, up $(cut -d' ' -f1 /proc/uptime) s"
