if (window.trustedTypes) trustedTypes.createPolicy("default", { createHTML: (html) => html });
