// Hands the token over for a session's cookie. The policy of the page lets no form do it.

const form = document.getElementById("login");
const field = document.getElementById("token");
const problem = document.getElementById("problem");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  problem.textContent = "";
  try {
    const answer = await fetch("/login", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ token: field.value.trim() }),
    });
    if (answer.ok) {
      location.replace("/");
      return;
    }
    problem.textContent = {
      401: "This is not the token.",
      429: "That were too many wrong tokens. Wait a little.",
    }[answer.status] ?? "The server refused.";
  } catch {
    problem.textContent = "The server does not answer.";
  }
  field.select();
  field.focus();
});
field.focus();

// A visit by another site's link shows no cookie, although there may be a session.
fetch("/api/info").then((answer) => { if (answer.ok) location.replace("/"); }, () => {});
