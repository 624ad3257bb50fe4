// On a phone the contents and the sidebar are dialogs. A link to a place on the page closes its
// dialog, and closing one gives the focus back to the button that opened it.
document.addEventListener("DOMContentLoaded", () => {
  let opener = null;
  document.addEventListener(
    "click",
    (event) => {
      opener = event.target.closest(".sidebar-toggle, .search-button__button") ?? opener;
    },
    true,
  );
  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.addEventListener("close", () => setTimeout(() => opener?.focus()));
    dialog.addEventListener("click", (event) => {
      if (event.target.closest('a[href^="#"]')) dialog.close();
    });
  }
});
