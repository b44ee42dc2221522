"""Users, logins, roles. The first login of a new cluster is made here, so that this family comes first."""

import datetime

from client import basic
from expect import ABSENT, TEXT, Call, Is, matches

NEW = "Try-it-0ut!"
NEWER = "Try-it-0ut?2"
BOT, BOT_PASSWORD = "bot1", "B0t-secret!"
WHY = "onprem 2.1"
WEBAPPS = "client 7, Many webapps"


def _in_a_week(text):
    then = datetime.datetime.fromisoformat(text)
    left = then - datetime.datetime.now(datetime.timezone.utc)
    return datetime.timedelta(days=6, hours=23) < left < datetime.timedelta(days=7, hours=1)


EXPIRES = Is("seven days from now as 2030-03-01 15:29:26+00:00", lambda t: matches(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+00:00$")(t) and _in_a_week(t))


def login(name, user, password, who, **more):
    """A login. `who` says as what its token is saved; empty: it must not succeed."""
    save = {"token_" + who: "users[0].token"} if who else {}
    body = {"users[0].token": TEXT, "users[0].expires_after": EXPIRES} if who else {}
    return Call(name, "POST /v1/users/login", WHY, who="nobody", headers={"Authorization": basic(user, password)}, save=save, body=body, **more)


def create(name, send, who="admin", **more):
    return Call(name, "POST /v1/users", WHY, who=who, send=send, **more)


def change(name, user, send, who="admin", **more):
    return Call(name, "PUT /v1/users/{username}", WHY, at={"username": user}, who=who, send=send, **more)


def user(**more):
    return {"username": "bot9", "password": BOT_PASSWORD} | more


def weak(what, password):
    return create(f"a password {what}", user(password=password), code=(1001, 1009), status=400)


STEPS = [
    Call("a login without a login", "POST /v1/users/login", WHY, who="nobody", status=401, code=1005),
    login("the first login without new_password", "admin", "secret", "", code=1024, status=401),
    login("the first login, a weak new_password", "admin", "secret", "", send={"new_password": "secret"}, code=(1001, 1009), status=400),
    login("the first login", "admin", "secret", "admin", send={"new_password": NEW}),
    login("the old password afterwards", "admin", "secret", "", status=401, code=1005),
    login("the new password", "admin", NEW, "admin", slash=True),
    create("a user", {"username": BOT, "password": BOT_PASSWORD}, status=201, body={"users[0].username": BOT}),
    create("the same once more", {"username": BOT, "password": BOT_PASSWORD}, code=1014, status=(400, 409, 500),
           body={"errors[0].details": "Unable to create user. Already exist?"}),
    create("without username", {"password": BOT_PASSWORD}, code=1008, body={"errors[0].details": matches("username")}),
    create("without password", {"username": "bot9"}, code=1008, body={"errors[0].details": matches("password")}),
    create("a name of 3 characters", user(username="bot"), code=1009),
    create("a name of 33 characters", user(username="b" * 33), code=(1001, 1009)),
    weak("of 7 characters", "Ab1!xyz"),
    weak("of 65 characters", "Ab1!" + "x" * 61),
    weak("without a digit", "Abcdefg!"),
    weak("without an upper-case letter", "abcdef1!"),
    weak("without a lower-case letter", "ABCDEF1!"),
    weak("without a sign", "Abcdefg1"),
    create("a name of 4 characters", user(username="bot4"), status=201, body={"users[0].username": "bot4"}),
    create("a name of 32 characters", user(username="b" * 32), status=201),
    Call("that one is deleted", "DELETE /v1/users/{username}", WHY, at={"username": "b" * 32}, body={"users[0].username": "b" * 32}),
    create("a body that is no JSON", b"{", code=1025),
    Call("a user is read", "GET /v1/users/{username}", WHY, at={"username": BOT},
         body={"users[0].ROLES": "ROLE_USER", "users[0].username": BOT, "users[0].password": ABSENT}),
    Call("the administrator is read", "GET /v1/users/{username}", WHY, at={"username": "admin"}, slash=True, body={"users[0].ROLES": "ROLE_ADMIN"}),
    Call("nobody is read", "GET /v1/users/{username}", WHY, at={"username": "nobody1"}, code=1006),
    login("a user logs in", BOT, BOT_PASSWORD, "user"),
    Call("a user reads itself", "GET /v1/users/{username}", WHY, at={"username": BOT}, who="user", body={"users[0].ROLES": "ROLE_USER"}),
    create("a user creates a user", user(), who="user", code=1005),
    Call("a user deletes a user", "DELETE /v1/users/{username}", WHY, at={"username": "bot4"}, who="user", code=1005),
    change("a user changes another's password", "bot4", {"password": NEWER}, who="user", code=1005),
    change("a user changes its password", BOT, {"password": NEWER, "old_password": BOT_PASSWORD}, who="user", body={"users[0].username": BOT}),
    Call("its token is good after that", "GET /v1/users/{username}", WHY, at={"username": BOT}, who="user"),
    login("the password from before", BOT, BOT_PASSWORD, "", status=401, code=1005),
    change("the administrator changes it back", BOT, {"password": BOT_PASSWORD}, body={"users[0].username": BOT}),
    change("to a weak one", BOT, {"password": "short"}, code=(1001, 1009)),
    change("without password", BOT, {}, code=1008),
    change("of nobody", "nobody1", {"password": NEWER}, code=1006),
    login("a second login of a user", BOT, BOT_PASSWORD, "spare"),
    Call("it logs out", "POST /v1/users/logout", WHY, who="spare"),
    Call("its token is no good after that", "GET /v1/users/{username}", WHY, at={"username": BOT}, who="spare", status=401, code=1005, until=1),
    Call("the other login of the user stays", "GET /v1/users/{username}", WHY, at={"username": BOT}, who="user"),
    login("another user logs in", "bot4", BOT_PASSWORD, "gone"),
    Call("its token is good at every webapp", "GET /v1/users/{username}", WEBAPPS, at={"username": "bot4"}, who="gone", webapp=1, until=2),
    Call("it is deleted", "DELETE /v1/users/{username}", WHY, at={"username": "bot4"}, body={"users[0].username": "bot4"}),
    Call("its token dies within a second", "GET /v1/users/{username}", "client 7: within 1 s", at={"username": "bot4"}, who="gone", status=401, code=1005, until=1),
    Call("and at the other webapp", "GET /v1/users/{username}", WEBAPPS, at={"username": "bot4"}, who="gone", webapp=1, status=401, code=1005, until=1),
    Call("it is gone", "GET /v1/users/{username}", WHY, at={"username": "bot4"}, code=1006),
    Call("it is deleted once more", "DELETE /v1/users/{username}", WHY, at={"username": "bot4"}, code=1006),
    Call("the administrator is deleted", "DELETE /v1/users/{username}", "onprem 2.1: cannot be deleted", at={"username": "admin"},
         status=(400, 403), code=(1005, 1009)),
]
