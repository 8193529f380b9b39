"""What the tests of borrowing share: a Site with the addon, and its processes one by one."""

import datetime

from berth import BUILD, Process, RpcError, Site, run, wait_until

HOST = "00:1a:2b:3c:4d:5e"


def moment(**ahead):
    """An ISO 8601 time, so far from now."""
    now = datetime.datetime.utcnow() + datetime.timedelta(**ahead)
    return now.strftime("%Y-%m-%dT%H:%M:%SZ")


def lender(folder, keys, **settings):
    """An installation whose server license has the addon; not running yet."""
    site = Site(folder, keys)
    site.issue_server_license("--addon", "borrow", out="borrow-license")
    site.configure(trust__server_license="borrow-license", **settings)
    return site


def token(site):
    return (site.folder / "borrow.token").read_text().strip()


def borrower(site):
    return site.client(token=token(site))


def uuid_of(path):
    return next(line.split()[1] for line in path.read_text().splitlines()
                if line.startswith("uuid:"))


def borrow(client, uuid, feature="F", host=HOST, until=None, **more):
    return client.call("BorrowLicenseV1", uuid=uuid, feature=feature, hostId=host,
                       validUntil=until or moment(days=2), **more)


def refused(client, *arguments, **more):
    try:
        return borrow(client, *arguments, **more)
    except RpcError as e:
        return e


def at_last(call, seconds=30):
    """The result of call(), asked again while a process is away."""
    def ask():
        try:
            return [call()]
        except RpcError as e:
            assert e.code != 1011, str(e)
            raise
    return wait_until(ask, seconds)[0]


def spawn(site, name, log=None):
    """One of the four, without a supervisor; site.services has it."""
    process = Process([BUILD / f"berth-{name}", "-c", site.config],
                      site.folder / f"{log or name}.log")
    site.services[name] = process
    return process


def healthy(site, name):
    return run(BUILD / f"berth-{name}", "health", "-c", site.config, check=False).returncode == 0


def start_one_by_one(site):
    """The gateway last, as under the supervisor: whom it does not reach it dials again after a while."""
    site.configure(rpc={n: f"ipc://{site.rpc}/{n}" for n in ("pool", "trust", "borrow")})
    if not site.cloud:
        site.start_cloud()
    for names in (("trust", "pool", "borrow"), ("gateway",)):
        for name in names:
            spawn(site, name)
        for name in names:
            wait_until(lambda name=name: healthy(site, name), 20, f"{name} is ready")
