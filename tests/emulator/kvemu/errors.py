# SPDX-License-Identifier: Apache-2.0
"""The answers that say no, with the service's own words as far as they are known."""

from .http import Answer

FIREWALL = ("Client address is not authorized and caller is not a trusted service.\r\nClient address: 127.0.0.1\r\n"
            "Caller: {caller}\r\nVault: {vault};location={region}")
CONNECTION = ("Public network access is disabled and request is not from a trusted service nor via an approved "
              "private link.\r\nCaller: {caller}\r\nVault: {vault};location={region}")
RBAC = ("Caller is not authorized to perform action on resource.\r\nIf role assignments, deny assignments or role "
        "definitions were changed recently, please observe propagation time.\r\nCaller: appid={appid};oid={oid};"
        "iss={iss}\r\nAction: '{action}'\r\nResource: '{resource}'\r\nAssignment: (not found)\r\n"
        "DenyAssignmentId: null\r\nDecisionReason: null \r\nVault: {vault};location={region}\r\n")
POLICY = ("The user, group or application 'appid={appid};oid={oid};iss={iss}' does not have keys {permission} "
          "permission on key vault '{vault};location={region}'. For help resolving this issue, please see "
          "https://go.microsoft.com/fwlink/?linkid=2125287")
HSM_RBAC = "Client is not authorized to perform the action on this resource. (Activity ID: {activity})"
NOT_FOUND = ("A key with (name/id) {name} was not found in this key vault. If you recently deleted this key you may "
             "be able to recover it using the correct recovery command. For help resolving this issue, please see "
             "https://go.microsoft.com/fwlink/?linkid=2125182")


class Refused(Exception):
    """An error of the vault."""

    def __init__(self, status, code, message, inner="", headers=None, body=None):
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.inner = inner
        self.headers = headers or {}
        self.body = body

    def answer(self):
        a = Answer(self.status, error_body(self.code, self.message, self.inner) if self.body is None else self.body,
                   self.headers)
        a.note.update(code=self.code, inner=self.inner)
        return a


def error_body(code, message, inner=""):
    error = {"code": code, "message": message}
    if inner:
        error["innererror"] = {"code": inner}
    return {"error": error}


def bad(message, code="BadParameter"):
    return Refused(400, code, message)


def gone(name):
    return Refused(404, "KeyNotFound", NOT_FOUND.format(name=name))


class OauthError(Exception):
    """An error of Entra or of a metadata service."""

    def __init__(self, status, error, text, code=0, headers=None):
        super().__init__(text)
        self.status = status
        self.error = error
        self.text = text
        self.code = code
        self.headers = headers or {}
