"""Runs named checks, prints a line for each that fails, and ends with their number."""
import asyncio, inspect, os, sys, traceback

URL, KEY = os.environ["GATEWAY_URL"], os.environ["GATEWAY_KEY"]
VERSION = "2025-04-01-preview"


def run(*checks):
    failed = 0
    for check in checks:
        try:
            result = check()
            if inspect.iscoroutine(result):
                asyncio.run(result)
        except Exception as error:
            failed += 1
            print(f"  {os.path.basename(sys.argv[0])}: {check.__name__}: {type(error).__name__}: {str(error)[:300]}")
            if os.environ.get("TRACE"):
                traceback.print_exc()
    print(f"{os.path.basename(sys.argv[0])}: {len(checks) - failed} of {len(checks)}")
    sys.exit(bool(failed))
