#!/usr/bin/env python3
"""A mail server on loopback for tests: aiosmtpd, with TLS and a password.

    PYTHONPATH=target/smtp tests/smtp/server.py --tls implicit|starttls --cert FILE --key FILE --password TEXT [--port N]

Prints the port on a line of its own, then each accepted mail as a line of JSON. It refuses a mail without the user
`sanctum` and the password, the recipient refused@example.com (550), and a mail with POISON in its text (554).
"""

import argparse
import asyncio
import email
import email.policy
import json
import ssl

from aiosmtpd.smtp import SMTP, AuthResult

USER = b"sanctum"


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        if address == "refused@example.com":
            return "550 5.1.1 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        text = mail.get_content().replace("\r\n", "\n")
        if "POISON" in text:
            return "554 5.7.1 the content is refused"
        accepted = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "headers": dict(mail.items()),
            "text": text,
        }
        print(json.dumps(accepted), flush=True)
        return "250 2.0.0 accepted"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tls", choices=("implicit", "starttls"), required=True)
    parser.add_argument("--cert", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--password", required=True)
    parser.add_argument("--port", type=int, default=0)
    args = parser.parse_args()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(args.cert, args.key)
    by_command = args.tls == "starttls"

    def authenticate(server, session, envelope, mechanism, data):
        is_known = (data.login, data.password) == (USER, args.password.encode())
        # Not handled: the server itself answers 535.
        return AuthResult(success=is_known, handled=False)

    def protocol():
        return SMTP(
            Handler(),
            hostname="localhost",
            tls_context=context if by_command else None,
            require_starttls=by_command,
            auth_required=True,
            auth_require_tls=by_command,
            authenticator=authenticate,
        )

    async def serve():
        loop = asyncio.get_running_loop()
        server = await loop.create_server(protocol, "127.0.0.1", args.port, ssl=None if by_command else context)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(serve())


if __name__ == "__main__":
    main()
