#!/usr/bin/env python3
"""Real programs at a gate on this machine: curl, wget, urllib, requests, httpx, aiohttp, node's fetch, Chromium driven by a script.

    python3 clients.py http://127.0.0.1:8080 --seconds 90 --seed 1 --addresses clients.json

Each client is one program with an address of its own in X-Forwarded-For, a way of buying (snipe at an even beat, jitter as people
do, slow and low, several addresses in turn), headers of its own library or copied from a browser, cookies kept or dropped: a seed
fixes all of it. What is not installed is left out and named. Writes which address was whose.
"""
import argparse, asyncio, http.cookiejar, json, math, random, shutil, subprocess, tempfile, threading, time
import urllib.error, urllib.parse, urllib.request

TIMEOUT_S = 10
CHROME = {
    "User-Agent": "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Language": "en-US,en;q=0.9",
    "Accept-Encoding": "gzip, deflate",
    "Upgrade-Insecure-Requests": "1",
    "sec-ch-ua": '"Chromium";v="138", "Not=A?Brand";v="8"',
    "sec-ch-ua-mobile": "?0",
    "sec-ch-ua-platform": '"Windows"',
    "Sec-Fetch-Site": "none",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "document",
}


class Refused(Exception):
    """No answer: the client goes on, as scripts do."""


class Commanded:
    def __init__(self, cookies):
        self.jar = tempfile.NamedTemporaryFile(prefix="capture-cookies-") if cookies else None


class Curl(Commanded):
    def ask(self, method, url, headers, form):
        command = ["curl", "-sS", "--max-time", str(TIMEOUT_S), "-X", method, url]
        if self.jar:
            command += ["-b", self.jar.name, "-c", self.jar.name]
        for name, value in headers.items():
            command += ["-H", f"{name}: {value}"]
        if form:
            command += ["--data", urllib.parse.urlencode(form)]
        return run(command)


class Wget(Commanded):
    def ask(self, method, url, headers, form):
        command = ["wget", "-q", "-O", "-", f"--timeout={TIMEOUT_S}", "--tries=1", "--content-on-error", url]
        if self.jar:
            command += [f"--load-cookies={self.jar.name}", f"--save-cookies={self.jar.name}", "--keep-session-cookies"]
        command += [f"--header={name}: {value}" for name, value in headers.items()]
        if form:
            command += ["--post-data=" + urllib.parse.urlencode(form)]
        return run(command)


def run(command):
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S + 5)
    except subprocess.TimeoutExpired as e:
        raise Refused from e
    return done.stdout.decode(errors="replace")


class Urllib:
    def __init__(self, cookies):
        handlers = [urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())] if cookies else []
        self.opener = urllib.request.build_opener(*handlers)

    def ask(self, method, url, headers, form):
        data = urllib.parse.urlencode(form).encode() if form else None
        request = urllib.request.Request(url, data=data, headers=headers, method=method)
        try:
            with self.opener.open(request, timeout=TIMEOUT_S) as answer:
                return answer.read().decode(errors="replace")
        except urllib.error.HTTPError as e:
            return e.read().decode(errors="replace")
        except OSError as e:
            raise Refused from e


class Requests:
    def __init__(self, cookies):
        import requests

        self.api, self.session, self.error = requests, requests.Session() if cookies else requests, requests.RequestException

    def ask(self, method, url, headers, form):
        try:
            return self.session.request(method, url, headers=headers, data=form, timeout=TIMEOUT_S).text
        except self.error as e:
            raise Refused from e


class Httpx:
    def __init__(self, cookies):
        import httpx

        self.error, self.keeps = httpx.HTTPError, cookies
        self.client = httpx.Client(timeout=TIMEOUT_S, follow_redirects=True)

    def ask(self, method, url, headers, form):
        if not self.keeps:
            self.client.cookies.clear()
        try:
            return self.client.request(method, url, headers=headers, data=form).text
        except self.error as e:
            raise Refused from e


class Aiohttp:
    def __init__(self, cookies):
        import aiohttp

        self.api = aiohttp
        self.loop = asyncio.new_event_loop()

        async def session():
            return aiohttp.ClientSession(cookie_jar=None if cookies else aiohttp.DummyCookieJar(), timeout=aiohttp.ClientTimeout(TIMEOUT_S))

        self.session = self.loop.run_until_complete(session())

    def ask(self, method, url, headers, form):
        async def once():
            async with self.session.request(method, url, headers=headers, data=form) as answer:
                return await answer.text(errors="replace")

        try:
            return self.loop.run_until_complete(once())
        except (self.api.ClientError, asyncio.TimeoutError, OSError) as e:
            raise Refused from e

    def close(self):
        self.loop.run_until_complete(self.session.close())


NODE = """
const lines = require('readline').createInterface({ input: process.stdin });
const jar = new Map();
lines.on('line', async (line) => {
  const { method, url, headers, form, keep } = JSON.parse(line);
  if (keep && jar.size) headers['Cookie'] = [...jar].map(([k, v]) => `${k}=${v}`).join('; ');
  let text = null;
  try {
    const answer = await fetch(url, { method, headers, body: form ? new URLSearchParams(form) : undefined, signal: AbortSignal.timeout(10000) });
    for (const c of answer.headers.getSetCookie()) { const [pair] = c.split(';'); const at = pair.indexOf('='); jar.set(pair.slice(0, at), pair.slice(at + 1)); }
    text = await answer.text();
  } catch {}
  console.log(JSON.stringify(text));
});
"""


class Node:
    def __init__(self, cookies):
        self.keeps = cookies
        self.process = subprocess.Popen(["node", "-e", NODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, method, url, headers, form):
        line = json.dumps({"method": method, "url": url, "headers": headers, "form": form, "keep": self.keeps})
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
            text = json.loads(self.process.stdout.readline() or "null")
        except OSError as e:
            raise Refused from e
        if text is None:
            raise Refused
        return text

    def close(self):
        self.process.stdin.close()
        self.process.wait(5)


class Chromium:
    """A true browser: its own headers, cookies, images and scripts. Only the hand is a program's."""

    def __init__(self, _cookies):
        from selenium import webdriver
        from selenium.common.exceptions import WebDriverException

        options = webdriver.ChromeOptions()
        for flag in ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]:
            options.add_argument(flag)
        options.binary_location = shutil.which("chromium")
        service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
        self.driver, self.error = webdriver.Chrome(options=options, service=service), WebDriverException
        self.driver.set_page_load_timeout(TIMEOUT_S)
        self.driver.execute_cdp_cmd("Network.enable", {})
        agent = self.driver.execute_script("return navigator.userAgent").replace("HeadlessChrome", "Chrome")
        self.driver.execute_cdp_cmd("Network.setUserAgentOverride", {"userAgent": agent, "acceptLanguage": "en-US,en"})

    def ask(self, method, url, headers, form):
        only = {"X-Forwarded-For": headers["X-Forwarded-For"]}
        try:
            self.driver.execute_cdp_cmd("Network.setExtraHTTPHeaders", {"headers": only})
            if method == "GET":
                self.driver.get(url)
            else:
                path = urllib.parse.urlsplit(url).path
                self.driver.execute_script(
                    "const f = document.createElement('form'); f.method = 'post'; f.action = arguments[0];"
                    "for (const [k, v] of Object.entries(arguments[1])) { const i = document.createElement('input'); i.name = k; i.value = v; f.append(i); }"
                    "document.body.append(f); f.submit();", path, form)
                time.sleep(0.3)
            return self.driver.page_source
        except self.error as e:
            raise Refused from e

    def close(self):
        self.driver.quit()


# Name, class, how many, what has to be there.
KINDS = [
    ("curl", Curl, 8, lambda: shutil.which("curl")),
    ("wget", Wget, 6, lambda: shutil.which("wget")),
    ("urllib", Urllib, 8, lambda: True),
    ("requests", Requests, 12, lambda: there("requests")),
    ("httpx", Httpx, 8, lambda: there("httpx")),
    ("aiohttp", Aiohttp, 8, lambda: there("aiohttp")),
    ("node", Node, 8, lambda: shutil.which("node")),
    ("chromium", Chromium, 4, lambda: there("selenium") and shutil.which("chromium") and shutil.which("chromedriver")),
]
# How they buy: median seconds between steps, spread of its logarithm.
WAYS = {"snipe": (0.4, 0.02), "beat": (1.5, 0.0), "mimic": (3.0, 0.8), "slow": (9.0, 0.1)}


def there(module):
    try:
        __import__(module)
        return True
    except ImportError:
        return False


class Plan:
    """What one client does; drawn before anything runs, so that a seed is a crowd."""

    def __init__(self, kind, number, rng):
        self.kind, self.rng = kind, random.Random(rng.random())
        self.way = rng.choice(list(WAYS))
        self.cookies = rng.random() < 0.6
        self.disguised = kind != "chromium" and rng.random() < 0.45
        self.start_s = rng.uniform(0, 12)
        # Many in one data centre, one of many addresses, or somewhere.
        near = f"198.21.0.{number % 250 + 1}"
        own = [f"198.20.{rng.randrange(250)}.{rng.randrange(1, 250)}" for _ in range(rng.choice([1, 1, 1, 12]))]
        self.addresses = [near] if rng.random() < 0.4 else own
        self.family = kind + ("-disguised" if self.disguised else "")
        self.product = rng.choice([1, 1, 1, rng.randrange(2, 60)])
        self.front_door = rng.random() < 0.4


def drive(plan, make, base, ends, tell):
    try:
        client = make(plan.cookies)
    except Exception as e:  # A browser that does not start is named, not hidden.
        return tell(f"{plan.kind}: {e}".splitlines()[0])
    steps = ["/"] if plan.front_door else []
    median, spread = WAYS[plan.way]
    time.sleep(plan.start_s)
    turn, buyer, text = 0, f"{plan.kind}-{plan.rng.randrange(10**6)}", ""
    while time.time() < ends:
        method, path, form = "GET", f"/product/{plan.product}", None
        if steps:
            path = steps.pop(0)
        elif 'action="/checkout"' in text:
            method, path, form = "POST", "/checkout", {"buyer": buyer}
        elif 'action="/cart"' in text:
            method, path, form = "POST", "/cart", {"buyer": buyer, "product": str(plan.product)}
        headers = dict(CHROME) if plan.disguised else {}
        headers["X-Forwarded-For"] = plan.addresses[turn % len(plan.addresses)]
        turn += 1
        try:
            text = client.ask(method, base + path, headers, form)
        except Refused:
            text = ""
        time.sleep(max(0.02, median * math.exp(plan.rng.gauss(0, spread)) if spread else median))
    getattr(client, "close", lambda: None)()


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("base")
    p.add_argument("--seconds", type=float, default=90)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--addresses", default="clients.json")
    a = p.parse_args()
    rng, notes, plans, number = random.Random(a.seed), [], [], 0
    for kind, make, count, is_there in KINDS:
        drawn = [Plan(kind, number + n, rng) for n in range(count)]
        number += count
        if is_there():
            plans += [(plan, make) for plan in drawn]
        else:
            notes.append(f"{kind} is not installed: left out")
    ends = time.time() + a.seconds
    threads = [threading.Thread(target=drive, args=(plan, make, a.base, ends, notes.append)) for plan, make in plans]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    families = {address: plan.family for plan, _ in plans for address in plan.addresses}
    with open(a.addresses, "w") as f:
        json.dump({"families": families, "notes": notes}, f, indent=1)


if __name__ == "__main__":
    main()
